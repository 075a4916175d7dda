package fs

import "time"

// spinner decides whether looking out for the next request pays. A sleeping
// thread costs a wake-up, tens of microseconds where its CPU has halted; a look
// costs a fraction of one, but burns the CPU for as long as it goes on. It keeps
// an account: a request that came (or, while not spinning, would have come)
// within the time adds to it, one that did not takes away. An idle mount hence
// spins once and then sleeps.
//
// Where other threads wait for the CPU, spinning takes it from them, and from
// the client; and waking is cheap then, for no CPU has halted. A look that took
// long shows it: it takes away twice as much as the last one did, unless many
// hits lie between.
type spinner struct {
	limit  time.Duration // how long a round may take; 0: never spin
	fixed  bool          // spin always
	credit int
	debt   int       // what the next crowded look costs
	good   int       // hits since the debt was last changed
	last   time.Time // when the last reply was sent
}

const (
	// autoSpin is the longest round of SpinAuto.
	autoSpin = 100 * time.Microsecond
	// wakeUp is what the wake-up adds to a wait.
	wakeUp = 50 * time.Microsecond
	// crowded is a look that took so long that another thread must have run on
	// this CPU meanwhile.
	crowded = 30 * time.Microsecond

	maxCredit = 32
	minCredit = -16
	missPrice = 2
	minDebt   = 8
	maxDebt   = 1 << 14
	goodRun   = 64 // hits that halve the debt
)

// newSpinner makes the spinner of an option. On a single CPU it never spins: the
// client could not run meanwhile.
func newSpinner(s Spin, cpus int) spinner {
	switch {
	case s == SpinOff || cpus < 2:
		return spinner{}
	case s == SpinAuto:
		return spinner{limit: autoSpin}
	}
	return spinner{limit: time.Duration(s), fixed: true}
}

// answered notes that a reply was sent.
func (s *spinner) answered() {
	if s.limit > 0 {
		s.last = time.Now()
	}
}

// hit notes that a request came while spinning, or was there at once.
func (s *spinner) hit() {
	s.credit = min(s.credit+1, maxCredit)
	if s.good++; s.good >= goodRun {
		s.good, s.debt = 0, max(s.debt/2, minDebt)
	}
}

// crowded notes that the CPU is wanted by others.
func (s *spinner) crowded() {
	s.debt = max(s.debt, minDebt)
	s.credit = max(s.credit-s.debt, -maxDebt)
	s.good, s.debt = 0, min(s.debt*2, maxDebt)
}

// slept notes that a request came after sleeping for it.
func (s *spinner) slept() {
	if s.limit == 0 {
		return
	}
	if time.Since(s.last) < s.limit+wakeUp {
		s.credit = min(s.credit+1, maxCredit)
	} else if s.credit > minCredit {
		s.credit--
	}
}

// spinRound is one time of spinning.
type spinRound struct {
	s           *spinner
	begin, look time.Time
}

// begin starts a round, which may have no looks at all.
func (s *spinner) begin() spinRound {
	if s.limit == 0 || !s.fixed && s.credit <= 0 {
		return spinRound{}
	}
	now := time.Now()
	return spinRound{s: s, begin: now, look: now}
}

// more tells whether to look once more.
func (r *spinRound) more() bool {
	if r.s == nil {
		return false
	}
	now := time.Now()
	took, all := now.Sub(r.look), now.Sub(r.begin)
	r.look = now
	if took > crowded && !r.s.fixed {
		r.s.crowded()
		return false
	}
	if all >= r.s.limit {
		r.s.credit = max(r.s.credit-missPrice, minCredit)
		return false
	}
	return true
}
