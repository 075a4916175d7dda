package image

import (
	"encoding/json"
	"reflect"
	"strings"
)

// dropKnown removes from m the keys that the struct v declares, also those that
// its values leave out.
func dropKnown(m map[string]json.RawMessage, v any) {
	t := reflect.TypeOf(v)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		delete(m, name)
	}
}
