package xdp

import (
	"sync"

	"meridian/fleet"
)

// zoneNumbers are what zones are counted by, for as long as counts last.
type zoneNumbers struct {
	mu      sync.Mutex
	numbers map[fleet.Name]uint16
	names   []fleet.Name // by number; 0 stands for zones that have none
}

// maxZones is MAX_ZONES of the program.
const maxZones = 1024

func newZoneNumbers() *zoneNumbers {
	return &zoneNumbers{numbers: map[fleet.Name]uint16{}, names: []fleet.Name{""}}
}

func (z *zoneNumbers) of(name fleet.Name) uint16 {
	z.mu.Lock()
	defer z.mu.Unlock()
	n, ok := z.numbers[name]
	if !ok && len(z.names) < maxZones {
		n = uint16(len(z.names))
		z.numbers[name], z.names = n, append(z.names, name)
	}
	return n
}

// list gives the names by number.
func (z *zoneNumbers) list() []fleet.Name {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.names[:len(z.names):len(z.names)]
}
