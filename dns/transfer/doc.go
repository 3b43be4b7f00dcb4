// Package transfer moves zones between the fleet and other nameservers, as
// primary and as secondary: AXFR (RFC 5936), IXFR (RFC 1995) from a journal on
// disk, NOTIFY (RFC 1996), transfers over TLS (RFC 9103), the SOA timers, and
// the members of catalog zones (RFC 9432). It takes the messages that a nameserver has no
// ready answer for, TSIG-signed ones and dynamic updates among them.
//
// Runtime floor: it imports the pure rooms below and sees the nameserver and
// the writer of dynamic zones through the interfaces Zones and Updater. cmd
// alone may import it.
package transfer
