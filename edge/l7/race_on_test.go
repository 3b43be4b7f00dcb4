//go:build race

package l7

// raced says that the race detector is on, under which pools forget at random.
const raced = true
