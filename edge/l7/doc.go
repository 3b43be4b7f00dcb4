// Package l7 is the gateway: it ends the clients' TLS and HTTP at the VIPs,
// routes by host and path, picks an endpoint, tries again where that is safe,
// checks the endpoints' health, and drains without losing a request.
//
// One request's way: listen.go accepts its connection, server.go keeps it and
// lets it go in good order, client.go waits for its requests and clientfront.go
// speaks HTTP/1.1 on it. exchange.go takes each from there, whatever version of
// HTTP it came by (front.go): find.go finds its service and route (way.go),
// admit.go and authorize.go ask the route's filters, prepare.go makes of it
// what endpoints are asked, ask.go tries them, by connections that upstream.go
// keeps and link.go speaks HTTP/1.1 on; body.go passes its body on, relay.go the
// answer, which shape.go changes on its way; tunnel.go carries it on after an Upgrade; accesslog.go writes it down,
// account.go tells callers who may know, telemetry.go gives it away for export.
// Connections of tcp services with forwarding proxy stream.go passes on unread,
// by server name where streamname.go has to find it; datagrams of udp services
// datagrams.go, as flows (flow.go).
//
// Under stress: shed.go does what edge/l7/overload decides by what measure.go
// finds, nextregion.go asks another region's gateways, shared.go shares checks with
// this region's, opinion.go has requests read a second time.
//
// What a request needs of the Spec is one immutable generation (generation.go),
// swapped by Apply; a request keeps the generation that it began with.
//
// One goroutine does all of a request in turn, without another's help unless a
// body comes while its answer goes, and in the common forms it allocates
// nothing. A connection between two requests holds no buffer.
//
// Requests of the gateway's own, to ask whether one may pass (forward_auth) or
// to copy it (mirror.go), go the same way by a Front that keeps the answer
// (inner.go).
//
// Carriers of HTTP/2 and HTTP/3 are handed in; net/http lends names and no code
// to the data path.
//
// Runtime floor: it imports fleet, edge/l7/{wire,hello,hop,overload,route,filter,balance,outlier,limit,why} and
// libraries that compress; cmd/edge wires it, its carriers (h2, h3) know front.go, otlp knows telemetry.go, no
// other room imports it.
package l7
