package bench

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

const blockSize = 1 << 20

// sequentialRead reads the file Path from begin to end in blocks of 1 MiB.
func sequentialRead(job Job) (func() (int, error), error) {
	buf := make([]byte, blockSize)
	return func() (int, error) {
		fd, err := unix.Open(job.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open %s: %w", job.Path, err)
		}
		defer unix.Close(fd)
		for ops := 0; ; ops++ {
			n, err := unix.Read(fd, buf)
			if err != nil {
				return ops, fmt.Errorf("read %s: %w", job.Path, err)
			}
			if n == 0 {
				return ops, nil
			}
		}
	}, nil
}

// sequentialWrite makes the file Path of Size bytes in blocks of 1 MiB, with an
// fsync at the end when Sync.
func sequentialWrite(job Job) (func() (int, error), error) {
	buf := randomBytes(blockSize)
	return func() (int, error) {
		f, err := os.Create(job.Path)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		ops := 0
		for left := job.Size; left > 0; ops++ {
			n, err := f.Write(buf[:min(left, blockSize)])
			if err != nil {
				return ops, err
			}
			left -= int64(n)
		}
		if job.Sync {
			if err := f.Sync(); err != nil {
				return ops, err
			}
		}
		return ops, f.Close()
	}, nil
}

// randomRead reads Count blocks of Size bytes at random places of Path.
func randomRead(job Job) (func() (int, error), error) {
	return atRandom(job, os.O_RDONLY, func(f *os.File, buf []byte, at int64) error {
		_, err := f.ReadAt(buf, at)
		return err
	})
}

// randomWrite writes Count blocks of Size bytes at random places of Path, with
// an fsync after each when Sync.
func randomWrite(job Job) (func() (int, error), error) {
	return atRandom(job, os.O_RDWR, func(f *os.File, buf []byte, at int64) error {
		_, err := f.WriteAt(buf, at)
		if err == nil && job.Sync {
			err = f.Sync()
		}
		return err
	})
}

func atRandom(job Job, flags int, once func(*os.File, []byte, int64) error) (func() (int, error), error) {
	f, err := os.OpenFile(job.Path, flags, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	blocks := st.Size() / job.Size
	if blocks < 1 {
		return nil, errors.Join(fmt.Errorf("%s is smaller than one block", job.Path), f.Close())
	}
	order := rand.New(rand.NewPCG(1, 2))
	buf := randomBytes(int(job.Size))
	return func() (int, error) {
		for i := range job.Count {
			if err := once(f, buf, order.Int64N(blocks)*job.Size); err != nil {
				return i, errors.Join(err, f.Close())
			}
		}
		return job.Count, f.Close()
	}, nil
}

// appendLoop opens Path for appending, writes Size bytes Count times and closes
// it.
func appendLoop(job Job) (func() (int, error), error) {
	buf := randomBytes(int(job.Size))
	return func() (int, error) {
		f, err := os.OpenFile(job.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		if err != nil {
			return 0, err
		}
		for i := range job.Count {
			if _, err := f.Write(buf); err != nil {
				return i, errors.Join(err, f.Close())
			}
		}
		return job.Count, f.Close()
	}, nil
}

// mmapRead maps Path and touches each of its pages, Count times over.
func mmapRead(job Job) (func() (int, error), error) {
	return func() (int, error) {
		f, err := os.Open(job.Path)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return 0, err
		}
		data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return 0, fmt.Errorf("map %s: %w", job.Path, err)
		}
		sum, ops := byte(0), 0
		for range max(job.Count, 1) {
			for i := 0; i < len(data); i += os.Getpagesize() {
				sum ^= data[i]
				ops++
			}
		}
		if err := unix.Munmap(data); err != nil {
			return ops, fmt.Errorf("unmap %s: %w", job.Path, err)
		}
		runtime.KeepAlive(sum)
		return ops, nil
	}, nil
}

// randomBytes are n bytes that do not compress, the same in each run.
func randomBytes(n int) []byte {
	source := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, n)
	_, _ = source.Read(buf) // never fails
	return buf
}
