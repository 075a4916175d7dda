package tarlayer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/opencontainers/go-digest"
)

// The file of an index, numbers in little endian:
//
//	0    magic
//	8    version, format, spooled, 2 bytes of nothing
//	16   blobSize, streamSize, spoolSize
//	40   counts
//	104  lengths of the sections: digest, DiffID, inodes, dents, names, xattrs, sparse, spans
//	168  length of the windows
//	176  CRC-32C of the sections; CRC-32C of what goes before
//	184  sections, windows
//
// The windows have checksums of their own, being zstd frames.
const (
	indexMagic   = "unionfs\xd1"
	indexVersion = 2
	indexHeader  = 184
	numSections  = 8
	numCounts    = 8
)

// fields returns the counts as they are stored.
func (c *counts) fields() [numCounts]*uint64 {
	return [numCounts]*uint64{&c.files, &c.dirs, &c.links, &c.others, &c.whiteouts, &c.opaques, &c.skipped, &c.fileBytes}
}

// header makes the header of the file of x, with these sections.
func (x *index) header(sections [][]byte) []byte {
	le := binary.LittleEndian
	h := append(make([]byte, 0, indexHeader), indexMagic...)
	h = le.AppendUint32(h, indexVersion)
	spooled := byte(0)
	if x.spooled {
		spooled = 1
	}
	h = append(h, byte(x.format), spooled, 0, 0)
	for _, v := range [...]int64{x.blobSize, x.streamSize, x.spoolSize} {
		h = le.AppendUint64(h, uint64(v))
	}
	for _, v := range x.counts.fields() {
		h = le.AppendUint64(h, *v)
	}
	crc := uint32(0)
	for _, s := range sections {
		h = le.AppendUint64(h, uint64(len(s)))
		crc = crc32.Update(crc, castagnoli, s)
	}
	h = le.AppendUint64(h, uint64(x.windows))
	h = le.AppendUint32(h, crc)
	return le.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

func (x *index) sections() [][]byte {
	return [][]byte{[]byte(x.digest), []byte(x.diffID), x.inodes, x.dents, x.names, x.xattrs, x.sparse, x.spans}
}

// write writes the file of an index.
func (x *index) write(w io.Writer, windows []byte) error {
	sections := x.sections()
	for _, b := range append([][]byte{x.header(sections)}, append(sections, windows)...) {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// readIndex reads the file of an index of the given size, without its windows,
// which begin at the offset it returns.
func readIndex(r io.ReaderAt, size int64) (*index, int64, error) {
	h := make([]byte, indexHeader)
	if size < indexHeader {
		return nil, 0, errIndex
	}
	if _, err := r.ReadAt(h, 0); err != nil {
		return nil, 0, err
	}
	le := binary.LittleEndian
	if string(h[:8]) != indexMagic || le.Uint32(h[8:]) != indexVersion ||
		le.Uint32(h[indexHeader-4:]) != crc32.Checksum(h[:indexHeader-4], castagnoli) {
		return nil, 0, errIndex
	}
	x := &index{
		format:     Format(h[12]),
		spooled:    h[13] != 0,
		blobSize:   int64(le.Uint64(h[16:])),
		streamSize: int64(le.Uint64(h[24:])),
		spoolSize:  int64(le.Uint64(h[32:])),
		windows:    int64(le.Uint64(h[168:])),
	}
	for i, p := range x.counts.fields() {
		*p = le.Uint64(h[40+8*i:])
	}
	var lens [numSections]int64
	total := int64(0)
	for i := range lens {
		lens[i] = int64(le.Uint64(h[104+8*i:]))
		if lens[i] < 0 || lens[i] > size-total {
			return nil, 0, errIndex
		}
		total += lens[i]
	}
	if x.windows < 0 || x.windows > size || indexHeader+total+x.windows != size || x.format >= numFormats {
		return nil, 0, errIndex
	}
	body, crc, err := readSections(r, total)
	if err != nil {
		return nil, 0, fmt.Errorf("read sections: %w", err)
	}
	if crc != le.Uint32(h[indexHeader-8:]) {
		return nil, 0, errIndex
	}
	x.cut(body, lens)
	return x, indexHeader + total, x.sane()
}

// readSections reads the sections and sums them up piece by piece, while a piece
// is still in the processor's cache.
func readSections(r io.ReaderAt, total int64) (body []byte, crc uint32, err error) {
	body = make([]byte, total)
	for at := int64(0); at < total; {
		piece := body[at:min(at+256<<10, total)]
		if err := readFullAt(r, piece, indexHeader+at); err != nil {
			return nil, 0, err
		}
		crc = crc32.Update(crc, castagnoli, piece)
		at += int64(len(piece))
	}
	return body, crc, nil
}

// cut takes the sections out of the body of a file.
func (x *index) cut(body []byte, lens [numSections]int64) {
	next := 0
	section := func() []byte {
		n := lens[next]
		next++
		s := body[:n:n]
		body = body[n:]
		return s
	}
	x.digest, x.diffID = digest.Digest(section()), digest.Digest(section())
	x.inodes, x.dents, x.names = section(), section(), section()
	x.xattrs, x.sparse, x.spans = section(), section(), section()
}

// sane checks what the code that uses an index relies on and does not check
// again.
func (x *index) sane() error {
	if len(x.inodes)%inodeRecord != 0 || len(x.dents)%dentRecord != 0 || len(x.spans)%spanRecord != 0 {
		return errIndex
	}
	root, err := x.inodes.at(1)
	if err != nil || !root.isDir() {
		return errIndex
	}
	if x.digest.Validate() != nil || x.diffID.Validate() != nil {
		return errIndex
	}
	at := int64(0)
	for i := range x.spans.len() {
		s, end := x.spans.at(i), x.spans.at(i+1).out
		if s.out != at || end <= at || end-at > maxSpan || s.in < 0 || s.aux < 0 {
			return errIndex
		}
		at = end
	}
	if at != x.streamSize {
		return errIndex
	}
	return nil
}
