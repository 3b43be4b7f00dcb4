// near tells how long two processors take to pass a cache line to and fro, in
// nanoseconds: the least mean of a thousand times. It is bench/dns.sh's, for
// virtual machines: their host moves processors about, and two that share no
// cache answer queries at little more than half the rate of two that do.
//
//	near CPU CPU
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1000, BLOCKS = 20 };

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void run_on(int cpu) {
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set) < 0) {
		perror("near: setting the processor");
		exit(2);
	}
}

static void wait_for(volatile uint32_t *word, uint32_t value) {
	while (*word != value)
		__builtin_ia32_pause();
}

int main(int argc, char **argv) {
	if (argc != 3) {
		fprintf(stderr, "usage: near CPU CPU\n");
		return 2;
	}
	volatile uint32_t *there = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *back = there + 64;
	if (there == MAP_FAILED) {
		perror("near: shared memory");
		return 2;
	}
	pid_t other = fork();
	if (other == 0) {
		run_on(atoi(argv[1]));
		for (uint32_t i = 1; i <= BLOCK * BLOCKS; i++) {
			wait_for(there, i);
			*back = i;
		}
		_exit(0);
	}
	run_on(atoi(argv[2]));
	uint64_t least = UINT64_MAX, begun = 0;
	for (uint32_t i = 1; i <= BLOCK * BLOCKS; i++) {
		if (i % BLOCK == 1)
			begun = now();
		*there = i;
		wait_for(back, i);
		if (i % BLOCK == 0 && now() - begun < least)
			least = now() - begun;
	}
	waitpid(other, NULL, 0);
	printf("%.0f\n", (double)least / BLOCK);
	return 0;
}
