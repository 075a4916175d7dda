package tarlayer

import (
	"encoding/binary"
	"sort"
)

const plainSpan = 128 << 10

// span is a piece of the stream that can be decoded alone.
type span struct {
	out int64 // offset in the stream
	// in is where its data begins: in bits for gzip, else in bytes, of the
	// blob or of the spool.
	in int64
	// aux is, for gzip, the offset among the windows of the one before the
	// span; for zstd, the end of its frames.
	aux    int64
	auxLen uint32 // length of the compressed window, 0 for none
	crc    uint32 // CRC-32C of the span
}

const spanRecord = 32

// spanTable is a list of spans as it is stored; the last one only says where the
// one before it ends.
type spanTable []byte

func (t spanTable) len() int { return max(len(t)/spanRecord-1, 0) }

func (t spanTable) at(i int) span {
	b := t[i*spanRecord : (i+1)*spanRecord]
	return span{
		out:    int64(binary.LittleEndian.Uint64(b)),
		in:     int64(binary.LittleEndian.Uint64(b[8:])),
		aux:    int64(binary.LittleEndian.Uint64(b[16:])),
		auxLen: binary.LittleEndian.Uint32(b[24:]),
		crc:    binary.LittleEndian.Uint32(b[28:]),
	}
}

// find returns the span that holds an offset of the stream, which must be in it.
func (t spanTable) find(off int64) int {
	return sort.Search(t.len(), func(i int) bool { return t.at(i+1).out > off })
}

// spanBuilder collects spans in order.
type spanBuilder struct {
	table   []byte
	windows []byte // gzip: compressed windows
	open    bool
	cur     span
}

// begin begins a span at an offset of the stream. One without any bytes is
// replaced by the next.
func (sb *spanBuilder) begin(out int64, s span) {
	s.out = out
	sb.cur, sb.open = s, true
}

// end ends the open span at an offset of the stream.
func (sb *spanBuilder) end(out int64, crc uint32) {
	if !sb.open || out == sb.cur.out {
		return
	}
	sb.cur.crc = crc
	sb.add(sb.cur)
	sb.open = false
}

func (sb *spanBuilder) add(s span) {
	le := binary.LittleEndian
	sb.table = le.AppendUint64(sb.table, uint64(s.out))
	sb.table = le.AppendUint64(sb.table, uint64(s.in))
	sb.table = le.AppendUint64(sb.table, uint64(s.aux))
	sb.table = le.AppendUint32(sb.table, s.auxLen)
	sb.table = le.AppendUint32(sb.table, s.crc)
}

// done returns the table, ended by where the stream and its data end.
func (sb *spanBuilder) done(out, in int64) spanTable {
	sb.add(span{out: out, in: in})
	return sb.table
}
