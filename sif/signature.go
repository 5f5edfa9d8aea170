package sif

import (
	"encoding/hex"
	"encoding/json"
	"io"

	"github.com/sylabs/sif/v2/pkg/sif"
)

// A Signature is what the descriptor and the form of a signature say. Nothing of it has been proved.
type Signature struct {
	// Format is "OpenPGP" or "DSSE", or empty if it is neither.
	Format string `json:"format,omitzero"`
	// Fingerprint is that of the OpenPGP key, in hexadecimal. Other keys have none.
	Fingerprint string `json:"fingerprint,omitzero"`
	// KeyIDs are what a DSSE envelope calls its keys.
	KeyIDs []string `json:"keyIDs,omitempty"`
	// Group and Object are what is signed: a group of objects, or one object. The other one is 0.
	Group  uint32 `json:"group,omitzero"`
	Object uint32 `json:"object,omitzero"`
}

// signature describes a signature. One that makes no sense is as empty as what can be said of it.
func (f *File) signature(d sif.Descriptor) *Signature {
	s := new(Signature)
	if _, fingerprint, err := d.SignatureMetadata(); err == nil {
		s.Fingerprint = hex.EncodeToString(fingerprint)
	}
	if id, isGroup := d.LinkedID(); isGroup {
		s.Group = id
	} else {
		s.Object = id
	}
	const most, mostBytes = 64, 256 << 10 // nobody has as many, or as large ones
	if f.signatures++; f.signatures > most {
		return s
	}
	data, err := io.ReadAll(io.LimitReader(f.section(Extent{d.Offset(), d.Size()}), mostBytes))
	if err != nil {
		return s
	}
	const clearsigned = "-----BEGIN PGP SIGNED MESSAGE-----"
	var envelope struct {
		PayloadType string
		Signatures  []struct{ KeyID string }
	}
	switch {
	case len(data) >= len(clearsigned) && string(data[:len(clearsigned)]) == clearsigned:
		s.Format = "OpenPGP"
	case json.Unmarshal(data, &envelope) == nil && envelope.PayloadType != "":
		s.Format = "DSSE"
		for _, sig := range envelope.Signatures {
			if sig.KeyID != "" {
				s.KeyIDs = append(s.KeyIDs, sig.KeyID)
			}
		}
	}
	return s
}
