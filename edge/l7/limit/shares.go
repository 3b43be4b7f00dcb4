package limit

import (
	"maps"
	"slices"
)

// Shares divides a quota by demand, max-min fairly: who wants less than an equal
// part gets what it wants, who wants more shares the rest alike, and what nobody
// wants is divided alike. Each has at least a tenth of an equal part, so that
// its first requests need not wait for a division. The shares' sum is the
// quota; the same demand gives the same shares everywhere.
func Shares(demand map[string]int64, quota int64) map[string]int64 {
	names := slices.Sorted(maps.Keys(demand))
	n := int64(len(names))
	out := make(map[string]int64, n)
	if n == 0 {
		return out
	}
	floor := quota / (10 * n)
	wants := map[string]int64{}
	for _, name := range names {
		out[name] = floor
		wants[name] = max(demand[name]-floor, 0)
	}
	left := quota - floor*n
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case wants[a] < wants[b]:
			return -1
		case wants[a] > wants[b]:
			return 1
		}
		return 0
	})
	for i, name := range names {
		part := min(wants[name], left/(n-int64(i)))
		out[name] += part
		left -= part
	}
	slices.Sort(names)
	for i, name := range names {
		part := left / (n - int64(i))
		out[name] += part
		left -= part
	}
	return out
}
