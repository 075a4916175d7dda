package stack

// Listed is one name of a merged directory.
type Listed struct {
	Dirent
	Layer int // layer of the visible object
}

// ReadDir lists what the union shows in the directories reals (top first): each
// name once, whiteouts applied, upper layers' names first, in the layers' own
// order.
func ReadDir(reals []Real) ([]Listed, error) {
	if len(reals) == 1 {
		return readSingle(reals[0])
	}
	var out []Listed
	seen := make(map[string]struct{})
	for _, r := range reals {
		dir, ok := r.Dir()
		if !ok {
			break
		}
		ents, err := dir.ReadDir()
		if err != nil {
			return nil, err
		}
		for _, e := range ents {
			if _, dup := seen[e.Name]; dup {
				// Within one layer an AUFS whiteout may stand beside the
				// object that replaces it, in any order.
				if !e.Whiteout {
					out = replaceWhiteout(out, e, r.Layer)
				}
				continue
			}
			seen[e.Name] = struct{}{}
			out = append(out, Listed{e, r.Layer})
		}
	}
	return dropWhiteouts(out), nil
}

// replaceWhiteout puts e in the place of a whiteout of the same name and layer.
func replaceWhiteout(out []Listed, e Dirent, layer int) []Listed {
	for i := len(out) - 1; i >= 0 && out[i].Layer == layer; i-- {
		if out[i].Name == e.Name {
			if out[i].Whiteout {
				out[i].Dirent = e
			}
			break
		}
	}
	return out
}

func readSingle(r Real) ([]Listed, error) {
	dir, ok := r.Dir()
	if !ok {
		return nil, nil
	}
	ents, err := dir.ReadDir()
	if err != nil {
		return nil, err
	}
	out := make([]Listed, 0, len(ents))
	for _, e := range ents {
		if !e.Whiteout {
			out = append(out, Listed{e, r.Layer})
		}
	}
	return out, nil
}

func dropWhiteouts(in []Listed) []Listed {
	out := in[:0]
	for _, e := range in {
		if !e.Whiteout {
			out = append(out, e)
		}
	}
	return out
}
