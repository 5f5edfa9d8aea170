package squashfs

const (
	xattrIDSize     = 16
	xattrOutOfLine  = 0x100   // in the type of an attribute: its value is a reference
	maxXattrs       = 1 << 20 // limit for the attributes of one file when reading, in bytes
	xattrHeaderSize = 16
)

var xattrPrefixes = [...]string{"user.", "trusted.", "security."}

// openXattrs reads where the attributes are.
func (fsys *FS) openXattrs() error {
	var b [xattrHeaderSize]byte
	pos := fsys.super.xattrTable
	if pos > uint64(fsys.super.BytesUsed) {
		return corrupt("xattr table lies outside")
	}
	if err := fsys.readAt(b[:], int64(pos)); err != nil {
		return err
	}
	start := le.Uint64(b[:])
	if start > pos {
		return corrupt("xattr table: its beginning is behind its end")
	}
	fsys.xattrs = section{"xattr table", int64(start), int64(pos)}
	var err error
	fsys.xattrIDs, err = fsys.table("xattr ID table", pos+xattrHeaderSize, pos, le.Uint32(b[8:]), xattrIDSize)
	return err
}

// readXattrs reads the set of attributes with a number.
func (fsys *FS) readXattrs(id uint32) ([]Xattr, error) {
	b, err := fsys.record(&fsys.xattrIDs, id)
	if err != nil {
		return nil, err
	}
	c := cursor{fsys: fsys, table: &fsys.xattrs, spot: fsys.xattrs.spot(le.Uint64(b))}
	var list []Xattr
	left := int64(maxXattrs)
	for range le.Uint32(b[8:]) {
		x, err := fsys.readXattr(&c, &left)
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	return list, nil
}

// readXattr reads one attribute, and takes its size from left.
func (fsys *FS) readXattr(c *cursor, left *int64) (x Xattr, err error) {
	b, err := c.next(4)
	if err != nil {
		return x, err
	}
	kind, size := int(le.Uint16(b)), int(le.Uint16(b[2:]))
	if prefix := kind &^ xattrOutOfLine; prefix >= len(xattrPrefixes) {
		return x, corrupt("xattr of type %#x", kind)
	} else if b, err = c.next(size); err != nil {
		return x, err
	} else {
		x.Name = xattrPrefixes[prefix] + string(b)
	}

	at := c
	if b, err = c.next(4); err != nil {
		return x, err
	}
	if kind&xattrOutOfLine != 0 {
		if n := le.Uint32(b); n != 8 {
			return x, corrupt("xattr %q: its reference has %d bytes", x.Name, n)
		}
		if b, err = c.next(8); err != nil {
			return x, err
		}
		at = &cursor{fsys: fsys, table: &fsys.xattrs, spot: fsys.xattrs.spot(le.Uint64(b))}
		if b, err = at.next(4); err != nil {
			return x, err
		}
	}
	n := int64(le.Uint32(b))
	*left -= int64(len(x.Name)) + n
	if *left < 0 {
		return x, corrupt("xattrs of more than %d bytes", maxXattrs)
	}
	b, err = at.next(int(n))
	x.Value = append([]byte{}, b...)
	return x, err
}
