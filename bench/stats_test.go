package bench

import (
	"math"
	"slices"
	"testing"
)

func TestMedianAndDeviation(t *testing.T) {
	for _, c := range []struct {
		values            []float64
		median, deviation float64
	}{
		{[]float64{3}, 3, 0},
		{[]float64{5, 1, 3}, 3, 2},
		{[]float64{4, 1, 3, 2}, 2.5, 1},
		{[]float64{1, 1, 1, 1000}, 1, 0},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.median {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.median)
		}
		if got := medianDeviation(c.values); got != c.deviation {
			t.Errorf("medianDeviation(%v) = %v, want %v", c.values, got, c.deviation)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("the values were changed to %v", c.values)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestGeometricMean(t *testing.T) {
	if got := geometricMean([]float64{0.5, 2, 4, 0.25}); math.Abs(got-1) > 1e-12 {
		t.Errorf("geometric mean = %v, want 1", got)
	}
	if !math.IsNaN(geometricMean(nil)) {
		t.Error("the mean of nothing is a number")
	}
}
