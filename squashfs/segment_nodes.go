package squashfs

// nodeList is a list of nodes in pieces, so that it grows without being copied.
type nodeList struct{ pieces [][]node }

const nodesPerPiece = 1024

func (l *nodeList) len() int32 {
	k := len(l.pieces)
	if k == 0 {
		return 0
	}
	return int32((k-1)*nodesPerPiece + len(l.pieces[k-1]))
}

func (l *nodeList) at(i int32) *node { return &l.pieces[i/nodesPerPiece][i%nodesPerPiece] }

// add appends a node. Most lists need one piece, and not all of it.
func (l *nodeList) add(n node) {
	if l.len()%nodesPerPiece == 0 {
		var piece []node
		if len(l.pieces) > 0 {
			piece = make([]node, 0, nodesPerPiece)
		}
		l.pieces = append(l.pieces, piece)
	}
	last := &l.pieces[len(l.pieces)-1]
	*last = append(*last, n)
}
