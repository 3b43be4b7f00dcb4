// Package garden grows hostile requests: everything known by which one server
// can be made to read two requests where another reads one, or another body,
// another host, another client. Its tests send each of them through the gateway
// to nginx, HAProxy, Node, Go and lighttpd, and see what those make of it; other
// rooms' fuzz tests take them as seeds.
//
// Cellar: it imports the standard library alone; only tests import it.
package garden

import (
	"slices"
	"strconv"
	"strings"
)

// Want is what a gateway must do with a request.
type Want uint8

// The wants.
const (
	Refuse Want = iota // no endpoint may see any of it as a complete request
	Pass               // endpoints see exactly what Seen says
	Either             // refused, or endpoints see the first of what Seen says, or all
)

// Request is one hostile request, or one with others behind it, as octets on a
// connection of HTTP/1.1. In the octets {host} stands for the service's host and
// {id} for what tells this request from all others; see Octets.For.
type Request struct {
	Name   string // family/variant, unique
	Octets Octets
	Want   Want
	Seen   []Seen // in order
	// Starves: its end never comes, so the gateway may wait for it.
	Starves bool
}

// Octets are a request with {host} and {id} in the place of what differs each time.
type Octets string

// For puts a host and an id into the octets.
func (o Octets) For(host, id string) string {
	return strings.NewReplacer("{host}", host, "{id}", id).Replace(string(o))
}

// Seen is a request as an endpoint may see it. Mark is the first word of its
// path: one for the first on the connection, two and three for those behind it.
// No endpoint may ever see smuggled.
type Seen struct{ Mark, Method, Body string }

// smuggled stands where a request might hide.
const smuggled = "GET /smuggled-{id} HTTP/1.1\r\nHost: {host}\r\n\r\n"

// second is a request that rightly follows the first.
const second = "GET /two-{id} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"

var seenSecond = Seen{"two", "GET", ""}

// All gives every request over HTTP/1.1, none twice.
func All() []Request {
	b := new(bed)
	b.coding()
	b.length()
	b.chunks()
	b.trailers()
	b.lines()
	b.targets()
	b.hosts()
	b.fields()
	b.connections()
	b.followers()
	b.spoofs()
	b.sizes()
	known := map[Octets]bool{}
	return slices.DeleteFunc(b.list, func(r Request) bool {
		again := known[r.Octets]
		known[r.Octets] = true
		return again
	})
}

// bed collects requests of one family after the other.
type bed struct {
	family string
	list   []Request
}

func (b *bed) add(variant, octets string, want Want, seen ...Seen) *Request {
	if len(variant) > 48 {
		variant = variant[:48] + "~" + strconv.Itoa(len(b.list))
	}
	b.list = append(b.list, Request{Name: b.family + "/" + variant, Octets: Octets(octets), Want: want, Seen: seen})
	return &b.list[len(b.list)-1]
}

func (b *bed) refuse(variant, octets string)               { b.add(variant, octets, Refuse) }
func (b *bed) pass(variant, octets string, seen ...Seen)   { b.add(variant, octets, Pass, seen...) }
func (b *bed) either(variant, octets string, seen ...Seen) { b.add(variant, octets, Either, seen...) }

// post is the first request with more fields, each ended by CRLF, and a body.
func post(fields, body string) string {
	return "POST /one-{id} HTTP/1.1\r\nHost: {host}\r\n" + fields + "\r\n" + body
}

// get is the same without a body.
func get(fields string) string {
	return "GET /one-{id} HTTP/1.1\r\nHost: {host}\r\n" + fields + "\r\n"
}

func one(method, body string) Seen { return Seen{"one", method, body} }

// quote names a variant by its own octets.
func quote(s string) string { return strconv.QuoteToASCII(s) }

// length is the Content-Length of a body, without {host} and {id} in it.
func length(body string) string {
	return "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
}

// chunk is such a body as one chunk.
func chunk(body string) string {
	return strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n"
}
