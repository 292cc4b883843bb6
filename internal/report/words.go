package report

import "fmt"

// Quantity returns a number with its noun, in the singular or plural: "1 file", "2 files".
func Quantity[N ~int | ~int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
