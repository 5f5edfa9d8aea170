// Package spelling says how much two words differ, for suggestions.
package spelling

// Distance returns how many bytes must be changed, added or removed to make b of a.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}

// Nearest returns the word that resembles what was written most, or "" if none does:
// two letters that have changed places are a common slip, and count as two bytes. Short words differ by less.
func Nearest(written string, words []string) string {
	nearest, least := "", min(2, len(written)-2)+1
	for _, w := range words {
		if d := Distance(written, w); d < least {
			nearest, least = w, d
		}
	}
	return nearest
}
