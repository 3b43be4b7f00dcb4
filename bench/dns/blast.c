// blast asks a nameserver as fast as it answers, or at a given rate, and tells
// what came of it. It is bench/dns.sh's generator: one thread, one connected
// UDP socket, recvmmsg and sendmmsg.
//
//	blast -a ADDR -p PORT -q FILE [-w WINDOW | -r RATE] [-t SECONDS] [-u WARMUP] [-P PIDS] [-n]
//
// Without -r it keeps WINDOW queries in flight (closed loop): so the server is
// the limit, and its queue never overflows. With -r it sends RATE queries a
// second, evenly, whatever comes back (open loop): so latency is that of a
// server with room to spare. It polls, so that no answer costs the server a
// wake-up of the generator.
//
// FILE holds queries as bench/dns/make.go writes them, each with what its
// answer must be; they are sent in order, over and over. Every answer is checked:
// id, question, RCODE, AA, counts, and where the file says so address, scope
// and signature. -n asks for the id and the QR bit alone, for an echo.
//
// PIDS are the server's processes: their CPU time between warm-up and end is
// told as microseconds an answer. Prints one line of key=value; times are in
// microseconds, shares of a CPU in percent. Ends with status 1 if more than 0.1 % of answers
// were wrong, or more than 1 % of queries were lost.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH = 32,            // messages a system call
	BUFFER = 4096,         // octets of an answer
	IDS = 1 << 16,         // queries in flight at most
	NEEDS_ADDRESS = 1,     // flags of a query: an A record with this address,
	NEEDS_SCOPE = 2,       // Client Subnet with a scope of 1 or more,
	NEEDS_SIGNATURE = 4,   // an RRSIG record
	FRESH = 8,             // the first label ends in 8 octets that are others each time
	TYPE_A = 1, TYPE_OPT = 41, TYPE_RRSIG = 46, OPTION_SUBNET = 8,
};
static const uint64_t second = 1000000000, timeout = 1000000000;

// query is the head of each query in the file, little-endian; size octets of
// message follow.
struct query {
	uint16_t size, question; // octets of the message, of its question
	uint8_t rcode, answers, authorities, flags; // least numbers of records
	uint32_t address; // in network order
	uint8_t message[];
} __attribute__((packed));

static struct query **queries;
static size_t query_count, next_query;
static int echo;

static struct { uint64_t sent; const struct query *query; } flight[IDS];
static uint32_t in_flight;
static uint16_t next_id, oldest;

static struct { uint64_t sent, answered, lost, wrong, stray, octets; } count;

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * second + t.tv_nsec;
}

static void die(const char *what) {
	perror(what);
	exit(2);
}

// Latencies: 64 buckets for each power of two of nanoseconds, so within 1.6 %.
static uint64_t buckets[64 * 64], latency_sum;

static unsigned bucket_of(uint64_t ns) {
	if (ns < 64)
		return ns;
	unsigned e = 63 - __builtin_clzll(ns);
	return (e - 5) * 64 + ((ns >> (e - 6)) & 63);
}

static double bucket_middle(unsigned b) {
	if (b < 64)
		return b;
	return (double)((64ull + b % 64) * 2 + 1) * (1ull << (b / 64 - 1)) / 2;
}

static double percentile(double p) {
	uint64_t total = 0, seen = 0;
	for (unsigned b = 0; b < 64 * 64; b++)
		total += buckets[b];
	for (unsigned b = 0; b < 64 * 64; b++)
		if ((seen += buckets[b]) > 0 && seen >= p * total)
			return bucket_middle(b) / 1000;
	return 0;
}

static void load(const char *path) {
	struct stat st;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	uint8_t *p = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, fd, 0), *end = p + st.st_size;
	if (p == MAP_FAILED)
		die(path);
	queries = malloc(st.st_size / sizeof(struct query) * sizeof *queries);
	while (p + sizeof(struct query) <= end) {
		struct query *q = (void *)p;
		queries[query_count++] = q;
		p += sizeof *q + q->size;
	}
	if (p != end || query_count == 0) {
		fprintf(stderr, "%s: not a file of queries\n", path);
		exit(2);
	}
}

static unsigned u16(const uint8_t *p) { return p[0] << 8 | p[1]; }

// has_scope tells whether OPT's options hold a Client Subnet with a scope.
static int has_scope(const uint8_t *p, const uint8_t *end) {
	for (; p + 4 <= end; p += 4 + u16(p + 2))
		if (u16(p) == OPTION_SUBNET)
			return p + 8 <= end && p[7] > 0;
	return 0;
}

// right tells whether an answer is what the query asked for.
static int right(const struct query *q, const uint8_t *m, unsigned n) {
	if (n < 12 || !(m[2] & 0x80))
		return 0;
	if (echo)
		return 1;
	if (!(m[2] & 0x04) || (m[2] & 0x02) || (m[3] & 15) != q->rcode)
		return 0;
	if (n < 12u + q->question || u16(m + 4) != 1 || memcmp(m + 12, q->message + 12, q->question) != 0)
		return 0;
	unsigned records = u16(m + 6);
	if (records < q->answers || u16(m + 8) < q->authorities)
		return 0;
	records += u16(m + 8) + u16(m + 10);
	unsigned found = 0;
	const uint8_t *p = m + 12 + q->question, *end = m + n;
	for (; records > 0; records--) {
		while (p < end && *p != 0 && *p < 0xc0)
			p += *p + 1;
		p += p < end && *p != 0 ? 2 : 1;
		if (p + 10 > end || p + 10 + u16(p + 8) > end)
			return 0;
		const uint8_t *data = p + 10;
		unsigned type = u16(p), size = u16(p + 8);
		if (type == TYPE_A && size == 4 && memcmp(data, &q->address, 4) == 0)
			found |= NEEDS_ADDRESS;
		else if (type == TYPE_RRSIG)
			found |= NEEDS_SIGNATURE;
		else if (type == TYPE_OPT && has_scope(data, data + size))
			found |= NEEDS_SCOPE;
		p = data + size;
	}
	return p == end && (q->flags & ~(found | FRESH)) == 0;
}

static void show(const struct query *q, const uint8_t *m, unsigned n) {
	fprintf(stderr, "wrong answer; query, then answer:\n");
	for (unsigned i = 0; i < q->size; i++)
		fprintf(stderr, "%02x", q->message[i]);
	fprintf(stderr, "\n");
	for (unsigned i = 0; i < n; i++)
		fprintf(stderr, "%02x", m[i]);
	fprintf(stderr, "\n");
}

static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_vec[BATCH], out_vec[BATCH][2];
static uint8_t answers[BATCH][BUFFER], ids[BATCH][2];

// prepare points the buffers: each query goes out as its id, then the rest of
// the message as it lies in the file.
static void prepare(void) {
	for (int i = 0; i < BATCH; i++) {
		in_vec[i] = (struct iovec){answers[i], BUFFER};
		in[i].msg_hdr.msg_iov = &in_vec[i];
		in[i].msg_hdr.msg_iovlen = 1;
		out_vec[i][0] = (struct iovec){ids[i], 2};
		out[i].msg_hdr.msg_iov = out_vec[i];
		out[i].msg_hdr.msg_iovlen = 2;
	}
}

// freshen makes a query's name one that was not asked for before, as names that
// do not exist are: so no cache of answers helps.
static void freshen(struct query *q) {
	static uint32_t made;
	uint8_t *last = q->message + 12 + q->message[12];
	uint32_t v = ++made * 2654435761u; // each but once in 2^32
	for (int i = 0; i < 8; i++, v >>= 4)
		*last-- = "0123456789abcdef"[v & 15];
}

// ask sends n of the next queries.
static void ask(int fd, int n) {
	uint16_t used[BATCH];
	uint64_t t = now();
	for (int i = 0; i < n; i++) {
		while (flight[next_id].query != NULL)
			next_id++;
		struct query *q = queries[next_query++];
		if (next_query == query_count)
			next_query = 0;
		if (q->flags & FRESH)
			freshen(q);
		used[i] = next_id++;
		flight[used[i]].query = q;
		flight[used[i]].sent = t;
		ids[i][0] = used[i] >> 8;
		ids[i][1] = used[i];
		out_vec[i][1] = (struct iovec){(void *)(q->message + 2), q->size - 2};
	}
	in_flight += n;
	count.sent += n;
	for (int done = 0; done < n;) {
		int k = sendmmsg(fd, out + done, n - done, 0);
		if (k < 0 && errno != EINTR && errno != ENOBUFS && errno != ECONNREFUSED)
			die("sending");
		if (k > 0)
			done += k;
	}
}

// hear takes what answers there are, and gives how many.
static int hear(int fd) {
	int n = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, NULL);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
			die("receiving");
		return 0;
	}
	uint64_t t = now();
	for (int i = 0; i < n; i++) {
		const uint8_t *m = answers[i];
		unsigned id = u16(m), size = in[i].msg_len;
		const struct query *q = flight[id].query;
		if (q == NULL || size < 2) {
			count.stray++;
			continue;
		}
		flight[id].query = NULL;
		in_flight--;
		count.answered++;
		count.octets += size;
		if (!right(q, m, size) && count.wrong++ == 0)
			show(q, m, size);
		uint64_t ns = t - flight[id].sent;
		latency_sum += ns;
		buckets[bucket_of(ns)]++;
	}
	return n;
}

// give_up takes queries that had no answer in time for lost.
static void give_up(void) {
	uint64_t t = now();
	while (in_flight > 0 && (flight[oldest].query == NULL || t - flight[oldest].sent > timeout)) {
		if (flight[oldest].query != NULL) {
			flight[oldest].query = NULL;
			in_flight--;
			count.lost++;
			buckets[bucket_of(timeout)]++; // so that who loses queries is not the faster for it
		}
		if (++oldest == next_id)
			break;
	}
}

static void pause_ns(uint64_t ns) {
	for (uint64_t until = now() + ns; now() < until;)
		__builtin_ia32_pause();
}

// run asks until the given time: with a rate evenly, else keeping a window in
// flight. Within the window it sends full batches, but for a server that
// answers none for a while.
static void run(int fd, uint64_t until, uint32_t window, double rate) {
	uint64_t start = now(), t = start, heard = start, checked = start;
	double due = 0;
	for (; t < until; t = now()) {
		uint32_t n;
		if (rate > 0) {
			double want = (double)(t - start) / second * rate - due;
			n = want > BATCH ? BATCH : want;
			due += n;
			if (want > BATCH * 32) // the generator itself was held up: that is not made up for
				due += want - BATCH;
			if (in_flight + n > IDS / 2)
				n = 0;
		} else {
			n = window - in_flight;
			if (n > BATCH)
				n = BATCH;
			if (n < BATCH && n < window && t - heard < 50000)
				n = 0;
		}
		if (n > 0)
			ask(fd, n);
		if (hear(fd) > 0)
			heard = now();
		else if (n == 0 && rate == 0)
			pause_ns(2000);
		if (t - checked > second / 50) {
			give_up();
			checked = t;
		}
	}
}

// ticks is the CPU time of a process, all its threads together, in clock ticks.
static uint64_t ticks(const char *pid) {
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		die(path);
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	char *p = strrchr(text, ')');
	unsigned long long user = 0, system = 0;
	if (p == NULL || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
		die(path);
	return user + system;
}

static uint64_t ticks_all(const char *pids) {
	char list[1024];
	snprintf(list, sizeof list, "%s", pids);
	uint64_t sum = 0;
	for (char *p = strtok(list, ","); p != NULL; p = strtok(NULL, ","))
		sum += ticks(p);
	return sum;
}

// busy is the CPU time of the whole machine, in clock ticks.
static uint64_t busy(void) {
	FILE *f = fopen("/proc/stat", "r");
	unsigned long long user, nice, system, idle, wait, irq, soft, steal;
	if (f == NULL || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq, &soft, &steal) != 8)
		die("/proc/stat");
	fclose(f);
	return user + nice + system + irq + soft + steal;
}

static int dial(const char *address, int port) {
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 8 << 20;
	if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 || connect(fd, (void *)&to, sizeof to) < 0)
		die(address);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
	return fd;
}

int main(int argc, char **argv) {
	const char *address = "127.0.0.1", *file = NULL, *pids = "", *window = "200";
	double seconds = 4, warmup = 1, rate = 0;
	int port = 53;
	for (int c; (c = getopt(argc, argv, "a:p:q:w:r:t:u:P:n")) != -1;)
		switch (c) {
		case 'a': address = optarg; break;
		case 'p': port = atoi(optarg); break;
		case 'q': file = optarg; break;
		case 'w': window = optarg; break;
		case 'r': rate = atof(optarg); break;
		case 't': seconds = atof(optarg); break;
		case 'u': warmup = atof(optarg); break;
		case 'P': pids = optarg; break;
		case 'n': echo = 1; break;
		default: return 2;
		}
	if (file == NULL || optind != argc || atoi(window) < 1 || atoi(window) > IDS / 4 || seconds <= 0) {
		fprintf(stderr, "usage: blast -a ADDR -p PORT -q FILE [-w WINDOW | -r RATE] [-t SECONDS] [-u WARMUP] [-P PIDS] [-n]\n");
		return 2;
	}
	load(file);
	prepare();
	int fd = dial(address, port);
	run(fd, now() + warmup * second, atoi(window), rate);
	memset(&count, 0, sizeof count);
	memset(buckets, 0, sizeof buckets);
	latency_sum = 0;

	char self[16];
	snprintf(self, sizeof self, "%d", (int)getpid());
	uint64_t server = ticks_all(pids), own = ticks(self), all = busy(), start = now();
	run(fd, start + seconds * second, atoi(window), rate);
	double took = (double)(now() - start) / second, tick = sysconf(_SC_CLK_TCK);
	server = ticks_all(pids) - server, own = ticks(self) - own, all = busy() - all;
	double n = count.answered > 0 ? count.answered : 1, other = (double)all - server - own;
	printf("qps=%.0f cpu_us=%.3f avg=%.1f p50=%.1f p90=%.1f p99=%.1f p999=%.1f sent=%llu answered=%llu lost=%llu wrong=%llu stray=%llu"
	       " octets=%.1f server_cpu=%.1f own_cpu=%.1f other_cpu=%.1f\n",
	       count.answered / took, server / tick * 1e6 / n, latency_sum / n / 1000, percentile(.5), percentile(.9), percentile(.99), percentile(.999),
	       (unsigned long long)count.sent, (unsigned long long)count.answered, (unsigned long long)count.lost, (unsigned long long)count.wrong,
	       (unsigned long long)count.stray, count.octets / n, server / tick / took * 100, own / tick / took * 100, (other > 0 ? other : 0) / tick / took * 100);
	return count.answered == 0 || count.wrong * 1000 > count.answered || count.lost * 100 > count.sent;
}
