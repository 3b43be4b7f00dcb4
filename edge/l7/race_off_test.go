//go:build !race

package l7

const raced = false
