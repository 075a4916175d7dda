package tarlayer

import (
	"container/list"
	"sync"
)

// defaultSpanBytes is how much the cache that the process shares may hold.
const defaultSpanBytes = 64 << 20

// SpanCache holds the decoded spans that were used last, of any number of
// layers. Its methods may be called concurrently.
type SpanCache struct {
	mu    sync.Mutex
	max   int64
	bytes int64
	lru   *list.List // of *cachedSpan, last used first
	spans map[spanKey]*cachedSpan
	spare [][]byte // buffers of spans that were dropped
}

type spanKey struct {
	layer uint64 // Layer.dev
	span  int
}

// cachedSpan is one span, being decoded or decoded.
type cachedSpan struct {
	key   spanKey
	elem  *list.Element // nil once dropped; guarded by SpanCache.mu
	users int           // guarded by SpanCache.mu
	ready chan struct{} // closed when data and err are set
	data  []byte
	err   error
}

// NewSpanCache makes a cache of at most maxBytes, and of what is in use at the
// moment.
func NewSpanCache(maxBytes int64) *SpanCache {
	return &SpanCache{max: maxBytes, lru: list.New(), spans: make(map[spanKey]*cachedSpan)}
}

var sharedSpans = sync.OnceValue(func() *SpanCache { return NewSpanCache(defaultSpanBytes) })

// get returns a span, which load decodes into the buffer it is given if the
// cache does not have it. The caller gives it back with put.
func (c *SpanCache) get(key spanKey, size int, load func([]byte) error) (*cachedSpan, error) {
	c.mu.Lock()
	if s, ok := c.spans[key]; ok {
		s.users++
		c.lru.MoveToFront(s.elem)
		c.mu.Unlock()
		<-s.ready
		if s.err != nil {
			c.put(s)
			return nil, s.err
		}
		return s, nil
	}
	s := &cachedSpan{key: key, users: 1, ready: make(chan struct{})}
	c.evictLocked(int64(size))
	s.data = c.bufferLocked(size)
	c.bytes += int64(size)
	s.elem = c.lru.PushFront(s)
	c.spans[key] = s
	c.mu.Unlock()

	s.err = load(s.data)
	close(s.ready)
	if s.err != nil {
		c.mu.Lock()
		c.dropLocked(s) // the next reader tries anew
		c.mu.Unlock()
		c.put(s)
		return nil, s.err
	}
	return s, nil
}

// put gives a span back.
func (c *SpanCache) put(s *cachedSpan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	c.reuseLocked(s)
}

// drop forgets all spans of a layer.
func (c *SpanCache) drop(layer uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, s := range c.spans {
		if key.layer == layer {
			c.dropLocked(s)
		}
	}
}

// evictLocked drops the spans used least recently until there is room.
func (c *SpanCache) evictLocked(need int64) {
	for e := c.lru.Back(); e != nil && c.bytes+need > c.max; {
		prev := e.Prev()
		if s, ok := e.Value.(*cachedSpan); ok && s.users == 0 {
			c.dropLocked(s)
		}
		e = prev
	}
}

func (c *SpanCache) dropLocked(s *cachedSpan) {
	if s.elem == nil {
		return
	}
	c.lru.Remove(s.elem)
	s.elem = nil
	delete(c.spans, s.key)
	c.bytes -= int64(len(s.data))
	c.reuseLocked(s)
}

// maxSpare is how many buffers wait to be used again.
const maxSpare = 4

// reuseLocked keeps the buffer of a span that nobody can reach any more.
func (c *SpanCache) reuseLocked(s *cachedSpan) {
	if s.elem == nil && s.users == 0 && s.data != nil && len(c.spare) < maxSpare {
		c.spare = append(c.spare, s.data)
		s.data = nil
	}
}

// bufferLocked returns a buffer of a span's size.
func (c *SpanCache) bufferLocked(size int) []byte {
	for i, b := range c.spare {
		if cap(b) >= size && cap(b) <= 2*size+spanSize {
			last := len(c.spare) - 1
			c.spare[i] = c.spare[last]
			c.spare[last] = nil
			c.spare = c.spare[:last]
			return b[:size]
		}
	}
	if len(c.spare) == maxSpare { // none fits: make room for ones that do
		c.spare[0] = nil
		c.spare = append(c.spare[:0], c.spare[1:]...)
	}
	return make([]byte, size)
}
