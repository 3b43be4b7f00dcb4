package xdp

//go:generate go tool bpf2go -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3" -target bpfel -go-package xdp -type reason -type special_ref -type what -type bucket -type listen -type settings -type moment -type secret -type state -type limits -type sample dns bpf/dns.bpf.c -- -Ibpf
