package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meridian/fleet"
)

// Store keeps what operators want, for all replicas: numbered revisions of the
// Spec with its objects, the shifts in force, and who acknowledged what.
type Store interface {
	// Commit makes a new revision current if the current one is still base (0:
	// there is none), else it fails with a ConflictError. It gives the new
	// revision's number, greater than any before and than c.Floor. All or nothing.
	Commit(ctx context.Context, base uint64, c Change) (uint64, error)
	// Content gives what a kept revision holds.
	Content(ctx context.Context, revision uint64) (doc []byte, objects []fleet.Object, err error)
	// SetShift adds or replaces the shift of that id; with nil it takes it back.
	SetShift(ctx context.Context, id string, sh *fleet.Shift) error
	// PutAcks records the newest answers of nodes.
	PutAcks(ctx context.Context, acks []Ack) error
	// Watch calls update with all that is stored, at first and after each
	// change (several may be joined), one at a time, until ctx ends. It outlives
	// the loss of the store.
	Watch(ctx context.Context, update func(Stored)) error
	// Health says how the connection to the store is.
	Health() StoreHealth
	ItemStore
}

// ErrStoreAway is wrapped by errors of a Store that cannot be reached or has
// no quorum. What is served stays as it is.
var ErrStoreAway = errors.New("the store is away: nothing can be changed, everything keeps serving what it has")

// ConflictError says that the current revision is not the one that a change
// builds on.
type ConflictError struct{ Current, Base uint64 }

// Error names both revisions.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("the current revision is %d, not %d on which this change builds", e.Current, e.Base)
}

// Change is what one commit stores.
type Change struct {
	Doc     []byte         // the Spec as the operator wrote it
	Objects []fleet.Object // every object that it names
	Restore uint64         // instead of both: the content of this earlier revision
	Created time.Time
	Floor   uint64      // the greatest revision known to be in use
	Items   []ItemWrite // written with it: at most MaxTogether in the same transaction
}

// Revision describes one stored revision.
type Revision struct {
	Revision uint64    `json:"revision"`
	Created  time.Time `json:"created"`
	Restored uint64    `json:"restored,omitempty"` // the revision whose content it repeats
	Content  string    `json:"content"`            // equal for equal content
}

// Stored is all that a Store holds, of one moment.
type Stored struct {
	Revision uint64 // 0: nothing is stored yet
	Doc      []byte
	Objects  []fleet.Object
	Shifts   []fleet.Shift // in order of ID
	Acks     []Ack
	History  []Revision   // oldest first
	Zones    *fleet.Zones // zone items; versions are rules.ContentVersion's
	Derived  *fleet.Zones // derived items, likewise
	Problems *fleet.Zones // problem items, likewise
	Live     *fleet.Zones // live items, likewise
}

// StoreHealth is how a replica's connection to the store is.
type StoreHealth struct {
	Connected   bool      `json:"connected"`
	File        string    `json:"file,omitempty"`        // the Spec's, where a file takes the store's place; Error then says why it is not usable
	LastContact time.Time `json:"last_contact,omitzero"` // when the store was last heard of
	Error       string    `json:"error,omitempty"`
}

// AckState is what a node made of a revision.
type AckState string

// Sent is not answered yet; acked is applied; nacked was refused, and the node
// keeps the one before.
const (
	Sent   AckState = "sent"
	Acked  AckState = "acked"
	Nacked AckState = "nacked"
)

// Ack is the newest that is known of one node.
type Ack struct {
	Node     string    `json:"node"`
	Revision uint64    `json:"revision"`         // the newest one sent to it
	State    AckState  `json:"state"`            // what became of that one
	Applied  uint64    `json:"applied"`          // the newest one that it acknowledged
	SentAt   time.Time `json:"sent_at,omitzero"` // by the clock of the replica that serves it
	At       time.Time `json:"at,omitzero"`      // when it answered, by the same clock
	Error    string    `json:"error,omitempty"`  // why it refused
	Replica  string    `json:"replica"`          // the control node that serves it
	Online   bool      `json:"online"`           // whether it is connected to that replica
	Seen     time.Time `json:"seen,omitzero"`    // when the replica last said so
	// Live are the versions of the live objects that it has, of the kinds that
	// are awaited.
	Live map[string]string `json:"live,omitempty"`
}
