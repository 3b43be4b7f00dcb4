package l7

import (
	"sync"
	"sync/atomic"
	"time"
)

// ticketPeriod is how long one key encrypts new session tickets. It decrypts
// for a period more, and from one before, so that gateways whose clocks differ
// resume each other's sessions.
const ticketPeriod = 12 * time.Hour

// tickets keeps the session ticket keys (RFC 8446 section 4.6.1) of one
// configuration those of the moment: every gateway of the fleet derives the
// same ones, so that a session begun at one resumes at any other.
type tickets struct {
	epoch atomic.Int64 // that the keys are of, plus one
	mu    sync.Mutex   // held while they are installed
}

// install puts the keys in place where another period has begun. In between it
// is one load.
func (t *tickets) install(p *profileTLS, key func(scope string, epoch int64) [32]byte, scope string, epoch int64) {
	if t.epoch.Load() == epoch+1 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch.Load() == epoch+1 {
		return
	}
	// The first one encrypts.
	keys := [][32]byte{key(scope, epoch), key(scope, epoch-1), key(scope, epoch+1)}
	p.config.SetSessionTicketKeys(keys)
	p.quic.SetSessionTicketKeys(keys)
	t.epoch.Store(epoch + 1)
}
