package spelling

import "testing"

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"zstd", "zst", 1}, {"gzip", "gizp", 2}, {"kitten", "sitting", 3}} {
		if got := Distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q, %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"gzip", "zstd", "zstd-go", "lz4", "xz", "none"}
	for written, want := range map[string]string{"zst": "zstd", "ztsd": "zstd", "gzp": "gzip", "bzip2": "gzip", "brotli": "", "zstdgo": "zstd-go", "x": "", "lz": "", "": "", "lz5": "lz4"} {
		if got := Nearest(written, words); got != want {
			t.Errorf("%q: %q, want %q", written, got, want)
		}
	}
}
