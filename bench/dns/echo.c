// echo gives every query one and the same A record: what receiving and sending
// cost in C with recvmmsg and sendmmsg, without any DNS. A floor for
// bench/dns.sh, not a server.
//
//	echo PORT
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 32, SIZE = 4096 };
static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1};
static uint8_t text[BATCH][SIZE];
static struct sockaddr_in from[BATCH];
static struct iovec vec[BATCH];
static struct mmsghdr msg[BATCH];

int main(int argc, char **argv) {
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 0), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (argc != 2 || fd < 0 || bind(fd, (void *)&at, sizeof at) < 0) {
		perror("echo");
		return 1;
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			vec[i] = (struct iovec){text[i], SIZE - sizeof record};
			msg[i].msg_hdr = (struct msghdr){.msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &vec[i], .msg_iovlen = 1};
		}
		int n = recvmmsg(fd, msg, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++) {
			unsigned size = msg[i].msg_len;
			text[i][2] |= 0x84;
			text[i][7] = 1;
			memcpy(text[i] + size, record, sizeof record);
			vec[i].iov_len = size + sizeof record;
		}
		for (int done = 0; done < n;) {
			int k = sendmmsg(fd, msg + done, n - done, 0);
			done += k > 0 ? k : 1;
		}
	}
}
