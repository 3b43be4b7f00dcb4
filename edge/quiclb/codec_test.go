package quiclb

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of the draft's appendix B, and its worked example of section
// 5.4.2. (The second line of B.1 lacks a zero there, and the last of B.2, under
// rotation 3, has the first octet of 0.)
func TestDraftsVectors(t *testing.T) {
	const key = "8f95f09245765f80256934e50c66207f"
	for _, v := range []struct {
		rotation                uint8
		server, nonce, key, cid string
	}{
		{0, "c4605e", "4504cc4f", "", "07c4605e4504cc4f"},
		{1, "350d28b420", "03487d970b", "", "2a350d28b42003487d970b"},
		{0, "ed793a", "ee080dbf", key, "0720b1d07b359d3c"},
		{1, "ed793a51d49b8f5fab65", "ee080dbf48", key, "2fcc381bc74cb4fbad2823a3d1f8fed2"},
		{2, "ed793a51d49b8f5f", "ee080dbf48c0d1e5", key, "504dd2d05a7b0de9b2b9907afb5ecf8cc3"},
		{0, "ed793a51d49b8f5fab", "ee080dbf48c0d1e55d", key, "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc"},
		{0, "31441a", "9c69c275", "fdf726a9893ec05c0632d3956680baf0", "0767947d29be054a"},
	} {
		server, nonce := octets(t, v.server), octets(t, v.nonce)
		cfg := Config{Rotation: v.rotation, Server: len(server), Nonce: len(nonce)}
		if v.key != "" {
			cfg.Key = octets(t, v.key)
		}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		id, err := c.Encode(server, nonce)
		if err != nil || hex.EncodeToString(id) != v.cid {
			t.Errorf("%s %s: wrote %x, %v; expected %s", v.server, v.nonce, id, err, v.cid)
		}
		if got, ok := c.Decode(append(octets(t, v.cid), 1, 2, 3)); !ok || !bytes.Equal(got, server) {
			t.Errorf("%s: read %x, %v; expected %s", v.cid, got, ok, v.server)
		}
	}
}

// What is written is read again, at every length; an id that is too short, of
// another rotation or length, is not read.
func TestEveryLengthIsReadAgain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for server := 1; server <= 15; server++ {
		for nonce := 4; server+nonce <= 19; nonce++ {
			for _, key := range [][]byte{nil, draw(16)} {
				c, err := New(Config{Rotation: uint8(rnd.IntN(7)), Server: server, Nonce: nonce, Key: key})
				if err != nil {
					t.Fatal(err)
				}
				want := draw(server)
				id, err := c.Encode(want, draw(nonce))
				if err != nil {
					t.Fatal(err)
				}
				if got, ok := c.Decode(id); !ok || !bytes.Equal(got, want) || len(id) != c.Len() {
					t.Errorf("%d + %d octets, key %x: %x became %x, then %x", server, nonce, key, want, id, got)
				}
				if _, ok := c.Decode(id[:len(id)-1]); ok {
					t.Error("read an id that is cut short")
				}
				for _, bit := range []byte{0x01, 0x20} {
					if id[0] ^= bit; func() bool { _, ok := c.Decode(id); return ok }() {
						t.Error("read an id of another first octet")
					}
					id[0] ^= bit
				}
			}
		}
	}
}

func TestConfigsOutOfRange(t *testing.T) {
	for _, c := range []Config{
		{Rotation: 7, Server: 1, Nonce: 4},
		{Server: 0, Nonce: 4},
		{Server: 1, Nonce: 3},
		{Server: 10, Nonce: 10},
		{Server: 1, Nonce: 4, Key: make([]byte, 15)},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	c, err := New(Config{Server: 2, Nonce: 4})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Encode([]byte{1}, make([]byte, 4)); err == nil {
		t.Error("a server id of another length: no error")
	}
}

// Whatever octets a stranger sends are read without a panic, and what is read
// is what would be written.
func FuzzDecode(f *testing.F) {
	plain, err := New(Config{Server: 4, Nonce: 4})
	if err != nil {
		f.Fatal(err)
	}
	odd, err := New(Config{Rotation: 1, Server: 4, Nonce: 5, Key: make([]byte, 16)})
	if err != nil {
		f.Fatal(err)
	}
	single, err := New(ForFleet([16]byte{1}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(octets(f, "0720b1d07b359d3c"))
	f.Add(octets(f, "2fcc381bc74cb4fbad2823a3d1f8fed2"))
	f.Add(octets(f, "104dd2d05a7b0de9b2b9907afb5ecf8cc3"))
	f.Fuzz(func(t *testing.T, id []byte) {
		for _, c := range []*Codec{plain, odd, single} {
			server, ok := c.Decode(id)
			if ok != (len(id) >= c.Len() && id[0] == c.first()) {
				t.Fatalf("%x: %v", id, ok)
			}
			if ok && len(server) != c.Server {
				t.Fatalf("%x: server id %x", id, server)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	c, err := New(ForFleet([16]byte{1}))
	if err != nil {
		b.Fatal(err)
	}
	id, err := c.Encode(make([]byte, c.Server), make([]byte, c.Nonce))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Decode(id)
	}
}
