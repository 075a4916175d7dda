package main

// resolveImage finds the layers of an image: NAME[:TAG] in the store or
// oci:DIR[:TAG]. It returns their directories, top first, and the name to show.
func resolveImage(ref string) (dirs []string, name string, err error) {
	return nil, "", refusef("%s is not a directory, and there is no image of that name", ref)
}
