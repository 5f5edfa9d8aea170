package binarycache_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
)

// FuzzParseNARInfo checks that what can be read can be written and read again, with the same fingerprint.
func FuzzParseNARInfo(f *testing.F) {
	c := cachetest.New()
	for _, p := range c.Closure(f, "xz") {
		f.Add(c.Files[p.Digest()+".narinfo"])
	}
	f.Add([]byte(realInfo))
	f.Add([]byte("StorePath: /nix/store/x\nSig:\nCA: fixed:r:sha256:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := binarycache.ParseNARInfo("/nix/store", text)
		if err != nil {
			return
		}
		again, err := binarycache.ParseNARInfo("/nix/store", []byte(n.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, n)
		}
		if !reflect.DeepEqual(n, again) || n.Fingerprint() != again.Fingerprint() {
			t.Errorf("%+v\n%+v", n, again)
		}
		(&binarycache.Trust{}).Check(n)
	})
}

// FuzzParseInfo checks that a nix-cache-info is refused or understood.
func FuzzParseInfo(f *testing.F) {
	f.Add([]byte("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n"))
	f.Add([]byte("StoreDir: \nPriority: -2147483648\n:\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := binarycache.ParseInfo(text)
		if err == nil && (info.StoreDir == "" || info.StoreDir[0] != '/' || bytes.ContainsRune([]byte(info.StoreDir), '\n')) {
			t.Errorf("%+v", info)
		}
	})
}

// FuzzParseNetrc checks that nothing that is read panics.
func FuzzParseNetrc(f *testing.F) {
	f.Add("machine a login b password c\ndefault login \"d \\\" e\"\nmacdef init\nquit\n\nmachine x account y")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := binarycache.ParseNetrc(text); err == nil {
			n.Find("a")
		}
	})
}

// realInfo is what nix copy wrote about glibc, signed by the key realKey.
const realInfo = `StorePath: /nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36
URL: nar/1j35pclf1gg72clwknr9qnf0kd9qrfjn6rj275rwn0r9w48jz3bi.nar.xz
Compression: xz
FileHash: sha256:1j35pclf1gg72clwknr9qnf0kd9qrfjn6rj275rwn0r9w48jz3bi
FileSize: 2565196
NarHash: sha256:0m31j7vn3vqfrdq1d8wj26n7krcvlqxlwfa24bbkncm61yzabw1k
NarSize: 12794400
References: 
Deriver: 3qx0p8cdsfrlcic6dpi5jkyx3ykpwgm3-glibc-2.36.drv
Sig: test-1:ZWXMnCvEFtlTMQLey+BQ4CeO/lfyXgoHMvlc77PnxVceu+29YbT7wRrplv29nle5wdPzpOncNR6w2zxXikXYDw==
`

const realKey = "test-1:w2sdJ0NyqmY4p4dFd4EzRfFZ/y+NXHF3UXzY3uTPfCA="
