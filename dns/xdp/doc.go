// Package xdp answers DNS queries in the kernel, before a socket sees them.
//
// What dns/answer would answer is asked of it ahead of the queries, by the
// same Plan that the sockets use, and laid into maps: for each name what each
// type gets, as the octets that stand behind the question. So both answer the
// same, octet for octet. Where the name asked for is longer than the one that
// is known (below a wildcard, a delegation, or where there is nothing), the
// compression pointers of the answer are made relative to the end of the name.
// With NSEC such an answer depends on where the name stands among those that
// exist: there is one for each gap between them, found by a tree of labels (gaps).
// With NSEC3 it is put together from pieces, one of which is found by the hash of
// the name, which the program makes (proof).
//
// The program (see bpf/) answers plain queries over UDP: one question, at most
// an OPT with Client Subnet, a cookie, NSID, and options that mean nothing here. All
// else it passes to the sockets, and so what it has no answer for; but not that of
// clients over the rate limit (limits, networks).
//
// An image is all of that for one plan: compiled beside the one in use (compile,
// ask, kinds, below, faces), brought into maps of its own with a program of its
// own (kernel, clients), and put in place of the other at the device, so that no
// query is lost. What health decides changes within an image: it is written into
// the half of the states that is not in force, and then one number says that it
// is (deciding, flip).
//
// What an image has of one zone is a part. Parts of zones that have changed, and
// of zones whose answers depend on them, are left to the sockets at once (image)
// and then mended: their names are placed anew in spare room, the entries by
// which they are found are written one by one, and when no query is under way
// that may have seen both, the part is answered from again (mend, directory).
// Only what holds for all parts, what is steered and how, or too little room,
// needs another image. The one in use is kept in line while that is made (path).
//
// Adapter: it holds the kernel's interfaces (cilium/ebpf, netlink). It imports
// dns/answer, dns/server, dns/limit, dns/zone, geo and steer. Imported by cmd and lab only.
package xdp
