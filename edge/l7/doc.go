// Package l7 is the gateway: it ends the clients' TLS and HTTP at the VIPs,
// routes by host and path, picks an endpoint, tries again where that is safe,
// checks the endpoints' health, and drains without losing a request.
//
// One request's way: listen.go accepts its connection, server.go serves it and
// lets it go in good order, proxy.go finds its service, try.go tries endpoints,
// forward.go writes what an endpoint is asked and response.go what the client
// is told; tunnel.go carries it on after an Upgrade. Connections of tcp services
// with forwarding proxy stream.go passes on unread. What a request needs of
// the Spec is one immutable generation (generation.go), swapped by Apply; a
// request keeps the generation that it began with.
//
// In this room net/http carries HTTP/1.1 and HTTP/2 to clients, and HTTP/1.1
// to endpoints.
//
// Runtime floor: it imports fleet, edge/l7/route and edge/l7/balance; cmd and
// lab wire it, no other room imports it.
package l7
