package sys

import "sync"

// FDCache bounds how many descriptors a set of owners keeps open between uses.
// Each owner embeds a Slot. A descriptor in use is never closed; unused ones
// are closed oldest first once more than the capacity are open.
type FDCache struct {
	mu   sync.Mutex
	cap  int  // immutable
	open int  // guarded by mu: slots holding a descriptor
	idle Slot // guarded by mu: ring of unused slots, idle.next is the oldest
}

// Slot is one owner's place in an FDCache. The zero value holds nothing. A
// Slot must not be copied once used.
type Slot struct {
	fd         int32 // descriptor plus one, 0 is none; guarded by FDCache.mu
	refs       int32 // users; guarded by FDCache.mu
	dead       bool  // close when the last user is gone; guarded by FDCache.mu
	prev, next *Slot // ring of unused slots; guarded by FDCache.mu
}

// NewFDCache returns a cache that keeps at most capacity descriptors open when
// they are not in use.
func NewFDCache(capacity int) *FDCache {
	c := &FDCache{cap: max(capacity, 1)}
	c.idle.prev, c.idle.next = &c.idle, &c.idle
	return c
}

// Acquire returns the slot's descriptor, opening it with open when there is
// none. The cache owns the descriptor; it stays open until the matching
// Release. open runs without any lock of the cache; when two callers race the
// second descriptor is closed again.
func (c *FDCache) Acquire(s *Slot, open func() (int, error)) (int, error) {
	if fd, ok := c.Try(s); ok {
		return fd, nil
	}
	fd, err := open()
	if err != nil {
		return -1, err
	}
	c.mu.Lock()
	if s.fd != 0 {
		have := c.useLocked(s)
		c.mu.Unlock()
		_ = Close(fd)
		return have, nil
	}
	s.fd = int32(fd) + 1
	s.refs++
	s.dead = false
	c.open++
	victims := c.evictLocked()
	c.mu.Unlock()
	for _, v := range victims {
		_ = Close(v)
	}
	return fd, nil
}

// Try is Acquire for a slot that already holds a descriptor.
func (c *FDCache) Try(s *Slot) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.fd == 0 || s.dead {
		return -1, false
	}
	return c.useLocked(s), true
}

// useLocked takes one more use of a slot that holds a descriptor.
//
// Preconditions: c.mu is held; s.fd != 0.
func (c *FDCache) useLocked(s *Slot) int {
	if s.next != nil {
		s.prev.next, s.next.prev = s.next, s.prev
		s.prev, s.next = nil, nil
	}
	s.refs++
	return int(s.fd) - 1
}

// Release ends one use begun by Acquire or Try.
func (c *FDCache) Release(s *Slot) {
	c.mu.Lock()
	s.refs--
	var victims []int
	if s.refs == 0 {
		if s.dead {
			victims = append(victims, c.forgetLocked(s))
		} else {
			s.prev, s.next = c.idle.prev, &c.idle
			s.prev.next, s.next.prev = s, s
			victims = c.evictLocked()
		}
	}
	c.mu.Unlock()
	for _, v := range victims {
		_ = Close(v)
	}
}

// Drop closes the slot's descriptor now, or when its last user releases it.
// The owner must be out of reach of new users by then.
func (c *FDCache) Drop(s *Slot) {
	c.mu.Lock()
	fd := -1
	switch {
	case s.fd == 0:
	case s.refs > 0:
		s.dead = true
	default:
		fd = c.forgetLocked(s)
	}
	c.mu.Unlock()
	if fd >= 0 {
		_ = Close(fd)
	}
}

// forgetLocked empties an unused slot and returns the descriptor to close.
//
// Preconditions: c.mu is held; s.fd != 0; s.refs == 0.
func (c *FDCache) forgetLocked(s *Slot) int {
	if s.next != nil {
		s.prev.next, s.next.prev = s.next, s.prev
		s.prev, s.next = nil, nil
	}
	fd := int(s.fd) - 1
	s.fd, s.dead = 0, false
	c.open--
	return fd
}

// evictLocked takes idle slots, oldest first, until the cache is within its
// capacity, and returns the descriptors to close after unlocking.
//
// Preconditions: c.mu is held.
func (c *FDCache) evictLocked() []int {
	var victims []int
	for c.open > c.cap && c.idle.next != &c.idle {
		victims = append(victims, c.forgetLocked(c.idle.next))
	}
	return victims
}

// Purge closes every descriptor that is not in use. Their owners open them again
// when they need them.
func (c *FDCache) Purge() {
	c.mu.Lock()
	var victims []int
	for c.idle.next != &c.idle {
		victims = append(victims, c.forgetLocked(c.idle.next))
	}
	c.mu.Unlock()
	for _, v := range victims {
		_ = Close(v)
	}
}

// Open tells how many descriptors the cache holds.
func (c *FDCache) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}
