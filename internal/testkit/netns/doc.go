// Package netns makes network namespaces, links between them and processes
// inside them, by netlink alone.
//
// A namespace has no name in the file system: it lives as long as its NS or a
// process in it, so that nothing is left behind by a crash.
//
// Cellar: imported by tests and by lab only.
package netns
