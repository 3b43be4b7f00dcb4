package store

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"meridian/fleet"
)

// What is where. Everything a revision holds is in blobs, content-addressed,
// sealed and cut into chunks, so that revisions share what did not change; the
// pointer to the current revision is the one key that commits compare.
//
//	/meridian/v1/current             {"revision": 7}
//	/meridian/v1/rev/00000000000000000007    a record
//	/meridian/v1/blob/HASH/0000      a chunk, sealed; HASH is of the whole plain content
//	/meridian/v1/shift/ID            a fleet.Shift; with a lease where it expires
//	/meridian/v1/ack/NODE            a controlplane.Ack
const (
	prefix     = "/meridian/v1/"
	currentKey = prefix + "current"
	revPrefix  = prefix + "rev/"
	blobPrefix = prefix + "blob/"
	shiftPre   = prefix + "shift/"
	ackPrefix  = prefix + "ack/"

	chunkSize = 512 << 10 // octets; etcd refuses requests of more than 1.5 MiB
	batchSize = 1 << 20   // octets of chunks in one transaction
	batchOps  = 60        // operations of one kind in one transaction (etcd allows 128)
	maxBlob   = 64 << 20
	keep      = 20 // revisions
)

// pointer is the value of currentKey.
type pointer struct {
	Revision uint64 `json:"revision"`
}

// record is one revision.
type record struct {
	Revision uint64    `json:"revision"`
	Created  time.Time `json:"created"`
	Restored uint64    `json:"restored,omitempty"`
	Manifest blobRef   `json:"manifest"`
}

// manifest lists what a revision holds.
type manifest struct {
	Doc     blobRef     `json:"doc"`
	Objects []objectRef `json:"objects"`
}

type objectRef struct {
	Kind fleet.ObjectKind `json:"kind"`
	ID   string           `json:"id"`
	File string           `json:"file,omitempty"`
	Blob blobRef          `json:"blob"`
}

// blobRef names a blob by the SHA-256 of its content, in hex.
type blobRef struct {
	Hash string `json:"hash"`
	Size int    `json:"size"` // octets
}

func refOf(data []byte) blobRef {
	sum := sha256.Sum256(data)
	return blobRef{hex.EncodeToString(sum[:]), len(data)}
}

// chunks is how many keys the blob takes; an empty one takes one too.
func (r blobRef) chunks() int { return max(1, (r.Size+chunkSize-1)/chunkSize) }

func (r blobRef) valid() bool {
	return len(r.Hash) == 2*sha256.Size && r.Size >= 0 && r.Size <= maxBlob
}

func revKey(n uint64) string { return fmt.Sprintf("%s%020d", revPrefix, n) }

func blobDir(hash string) string { return blobPrefix + hash + "/" }

func chunkKey(hash string, i int) string { return fmt.Sprintf("%s%04d", blobDir(hash), i) }

// parseChunkKey gives the hash and the place of a chunk.
func parseChunkKey(key string) (hash string, i int, ok bool) {
	rest, ok := strings.CutPrefix(key, blobPrefix)
	if !ok {
		return "", 0, false
	}
	hash, num, ok := strings.Cut(rest, "/")
	i, err := strconv.Atoi(num)
	return hash, i, ok && err == nil && i >= 0
}

// content is a revision's blobs in plain, by hash.
type content map[string][]byte

func (c content) add(data []byte) (blobRef, error) {
	if len(data) > maxBlob {
		return blobRef{}, fmt.Errorf("is larger than %d octets", maxBlob)
	}
	r := refOf(data)
	c[r.Hash] = data
	return r, nil
}

// pack turns a document and its objects into blobs under one manifest.
func pack(doc []byte, objects []fleet.Object) (blobRef, content, error) {
	blobs := content{}
	var m manifest
	var err error
	if m.Doc, err = blobs.add(doc); err != nil {
		return blobRef{}, nil, fmt.Errorf("the Spec %w", err)
	}
	for _, o := range objects {
		ref, err := blobs.add(o.Data)
		if err != nil {
			return blobRef{}, nil, fmt.Errorf("%s %q %w", o.Key.Kind, o.Key.ID, err)
		}
		m.Objects = append(m.Objects, objectRef{o.Key.Kind, o.Key.ID, o.File, ref})
	}
	b, err := json.Marshal(m)
	if err != nil {
		return blobRef{}, nil, fmt.Errorf("manifest: %w", err)
	}
	ref, err := blobs.add(b)
	if err != nil {
		return blobRef{}, nil, fmt.Errorf("the list of objects %w", err)
	}
	return ref, blobs, nil
}

// sealChunks gives the keys and values of one blob.
func (c *Client) sealChunks(ref blobRef, data []byte) (keys []string, values [][]byte, err error) {
	for i := range ref.chunks() {
		lo := i * chunkSize
		key := chunkKey(ref.Hash, i)
		v, err := c.cfg.Identity.Seal(rand.Reader, data[lo:min(lo+chunkSize, len(data))], key)
		if err != nil {
			return nil, nil, err
		}
		keys, values = append(keys, key), append(values, v)
	}
	return keys, values, nil
}

// openChunks joins and verifies the chunks of one blob.
func (c *Client) openChunks(ref blobRef, chunk func(i int) []byte) ([]byte, error) {
	var b bytes.Buffer
	for i := range ref.chunks() {
		part, err := c.cfg.Identity.Open(chunk(i), chunkKey(ref.Hash, i))
		if err != nil {
			return nil, fmt.Errorf("blob %.12s: %w", ref.Hash, err)
		}
		b.Write(part)
	}
	if got := refOf(b.Bytes()); got != ref {
		return nil, fmt.Errorf("blob %.12s: content does not match its name", ref.Hash)
	}
	return b.Bytes(), nil
}
