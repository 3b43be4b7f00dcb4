package xdp

//go:generate go tool bpf2go -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3" -target bpfel -go-package xdp -type reason -type forward -type duty -type vip_flag -type node_flag -type node -type vip_key -type vip -type endpoint -type ring -type flow -type bucket -type traffic -type arrival_key -type asked -type order -type quic_how -type server_key -type network -type defend_flag -type defence -type list_head -type mode -type rule -type detail -type rules -type tally -type purse -type debts -type sample -type sampler -type gate_mode -type cookie_keys -type gate -type post edge bpf/edge.bpf.c -- -Ibpf
//go:generate go tool bpf2go -cc clang -cflags "-O2 -g -Wall -Werror -mcpu=v3" -target bpfel -go-package xdp accept bpf/accept.bpf.c -- -Ibpf
