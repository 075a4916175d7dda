package pack

import (
	"fmt"

	"github.com/unionfs-go/unionfs/whiteout"
)

// parseOverride reads what a tool without the rights remembered of an object.
func parseOverride(s string) (*whiteout.Override, error) {
	o, err := whiteout.ParseOverride(s)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInput, whiteout.OverrideContainers, err)
	}
	return &o, nil
}
