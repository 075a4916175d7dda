package tarlayer

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// Where things are in an old GNU header (tar.h: struct oldgnu_header) and in the
// blocks that continue it (struct sparse_header).
const (
	gnuSparseAt    = 386
	gnuSparseCount = 4
	gnuExtended    = 482
	extSparseCount = 21
	extExtended    = 504
	sparseEntryLen = 24
)

// sparseFragments returns the map of a sparse file in any of the GNU formats.
// archive/tar has checked it but does not tell it; raw is what it read for the
// entry.
func sparseFragments(hdr *tar.Header, raw []byte) (frags []fragment, sparse bool, err error) {
	major, minor := hdr.PAXRecords["GNU.sparse.major"], hdr.PAXRecords["GNU.sparse.minor"]
	list, hasList := hdr.PAXRecords["GNU.sparse.map"]
	switch {
	case hdr.Typeflag == tar.TypeGNUSparse:
		frags, err = oldGNUMap(raw)
	case major == "1" && minor == "0":
		frags, err = paxMapInData(raw)
	case major == "0" && (minor == "0" || minor == "1"), major == "" && minor == "" && hasList && list != "":
		frags, err = parseSparseNumbers(strings.Split(list, ","))
		if list == "" {
			frags, err = nil, nil
		}
	default:
		return nil, false, nil
	}
	if err != nil {
		return nil, true, err
	}
	end := int64(0)
	kept := frags[:0]
	for _, f := range frags {
		if f.off < end || f.length < 0 || f.length > hdr.Size-f.off {
			return nil, true, fmt.Errorf("map of a sparse file is out of order: %w", ErrInvalid)
		}
		end = f.off + f.length
		if f.length > 0 {
			kept = append(kept, f)
		}
	}
	return kept, true, nil
}

var errSparse = fmt.Errorf("damaged map of a sparse file: %w", ErrInvalid)

// mainHeader returns raw from the entry's own header on, which other headers
// may go before.
func mainHeader(raw []byte) ([]byte, error) {
	for len(raw) >= tarBlock {
		switch raw[156] {
		case tar.TypeXHeader, tar.TypeGNULongName, tar.TypeGNULongLink:
		default:
			return raw, nil
		}
		size, err := tarNumber(raw[124:136])
		if err != nil {
			return nil, err
		}
		skip := tarBlock + (size+tarBlock-1)/tarBlock*tarBlock
		if size < 0 || size > maxCapture || skip > int64(len(raw)) {
			return nil, errSparse
		}
		raw = raw[skip:]
	}
	return nil, errSparse
}

// tarNumber reads a number of a header: octal, or binary with the first bit set.
func tarNumber(b []byte) (int64, error) {
	if b[0]&0x80 != 0 {
		if b[0] != 0x80 {
			return 0, errSparse // negative or too large
		}
		for _, c := range b[1 : len(b)-8] {
			if c != 0 {
				return 0, errSparse
			}
		}
		v := binary.BigEndian.Uint64(b[len(b)-8:])
		if v > 1<<62 {
			return 0, errSparse
		}
		return int64(v), nil
	}
	s := strings.Trim(string(b), " \x00")
	if s == "" {
		return 0, nil
	}
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	v, err := strconv.ParseUint(s, 8, 62)
	if err != nil {
		return 0, errSparse
	}
	return int64(v), nil
}

func oldGNUMap(raw []byte) ([]fragment, error) {
	raw, err := mainHeader(raw)
	if err != nil {
		return nil, err
	}
	var frags []fragment
	at, count, more := gnuSparseAt, gnuSparseCount, gnuExtended
	for {
		if len(raw) < tarBlock {
			return nil, errSparse
		}
		for i := range count {
			e := raw[at+i*sparseEntryLen:][:sparseEntryLen]
			if e[0] == 0 {
				break
			}
			off, err := tarNumber(e[:12])
			if err != nil {
				return nil, err
			}
			length, err := tarNumber(e[12:])
			if err != nil {
				return nil, err
			}
			frags = append(frags, fragment{off: off, length: length})
		}
		if raw[more] == 0 {
			return frags, nil
		}
		raw = raw[tarBlock:]
		at, count, more = 0, extSparseCount, extExtended
	}
}

// paxMapInData reads a map of format 1.0, which stands before the data.
func paxMapInData(raw []byte) ([]fragment, error) {
	raw, err := mainHeader(raw)
	if err != nil {
		return nil, err
	}
	text := string(raw[tarBlock:])
	first, rest, ok := strings.Cut(text, "\n")
	if !ok {
		return nil, errSparse
	}
	count, err := strconv.ParseInt(first, 10, 64)
	if err != nil || count < 0 || count > int64(len(rest)) {
		return nil, errSparse
	}
	numbers := strings.SplitN(rest, "\n", int(2*count)+1)
	if len(numbers) != int(2*count)+1 {
		return nil, errSparse
	}
	return parseSparseNumbers(numbers[:2*count])
}

// parseSparseNumbers reads offsets and lengths in turn.
func parseSparseNumbers(numbers []string) ([]fragment, error) {
	if len(numbers)%2 != 0 {
		return nil, errSparse
	}
	frags := make([]fragment, 0, len(numbers)/2)
	for i := 0; i < len(numbers); i += 2 {
		off, err1 := strconv.ParseInt(numbers[i], 10, 64)
		length, err2 := strconv.ParseInt(numbers[i+1], 10, 64)
		if err1 != nil || err2 != nil || off < 0 {
			return nil, errSparse
		}
		frags = append(frags, fragment{off: off, length: length})
	}
	return frags, nil
}
