package bench

import (
	"math"
	"slices"
)

// median is the middle of the values, the mean of the two middle ones for an
// even number of them, and NaN for none. The values are not changed.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// medianDeviation is the median of the distances from the median (MAD, not
// scaled), the spread that a single outlier does not change.
func medianDeviation(values []float64) float64 {
	m := median(values)
	distances := make([]float64, len(values))
	for i, v := range values {
		distances[i] = math.Abs(v - m)
	}
	return median(distances)
}

// geometricMean is the n-th root of the product of the values, which must be
// above 0; NaN for none.
func geometricMean(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sum := 0.0
	for _, v := range values {
		sum += math.Log(v)
	}
	return math.Exp(sum / float64(len(values)))
}
