package stack

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestMerge(t *testing.T) {
	const aufs = "the kernel knows no AUFS marks"
	runLayerCases(t, []layerCase{
		{what: "one layer", layers: `
			==
			file a =1
			dir d
			file d/x =2
			link l ->a
			fifo p`, want: `a=1 d/ d/x=2 l->a p|`},
		{what: "empty layers", layers: "==\n==\n==", want: ``},
		{what: "top file wins", layers: "==\nfile a =top\n==\nfile a =mid\n==\nfile a =low\nfile b =low", want: `a=top b=low`},
		{what: "directories merge", layers: `
			==
			file d/a =1
			file d/same =1
			==
			file d/b =2
			file d/same =2
			==
			file d/sub/c =3
			file d/same =3`, want: `d/ d/a=1 d/b=2 d/same=1 d/sub/ d/sub/c=3`},
		{what: "file over directory", layers: "==\nfile x =1\n==\nfile x/in =2", want: `x=1`},
		{what: "directory over file", layers: "==\nfile x/in =1\n==\nfile x =2", want: `x/ x/in=1`},
		{what: "link over directory", layers: "==\nlink x ->d\n==\nfile x/in =2\nfile d/y =3", want: `x->d d/ d/y=3`},
		{what: "a file between directories ends the merge", layers: `
			==
			file d/a =1
			==
			file d =2
			==
			file d/c =3`, want: `d/ d/a=1`},
		{what: "a link between directories ends the merge", layers: `
			==
			file d/a =1
			==
			link d ->e
			==
			file d/c =3`, want: `d/ d/a=1`},
		{what: "a layer that lacks the directory does not end the merge", layers: `
			==
			file d/a =1
			==
			file e =2
			==
			file d/c =3`, want: `d/ d/a=1 d/c=3 e=2`},
		{what: "names like marks in the kernel's format", layers: `
			==
			dir . t.impure=y
			file .wh.x =
			file .wh..wh..opq =
			dir d
			file d/.wh.y =
			==
			file x =2
			file d/y =3`, want: `.wh..wh..opq= .wh.x= x=2 d/ d/.wh.y= d/y=3`},
		{what: "names like marks with content", layers: `
			==
			file .wh.x =full
			dir .wh.d
			link .wh.l ->x
			==
			file x =1
			file d =2
			file l =3`, want: `.wh.x=full .wh.d/ .wh.l->x x=1 d=2 l=3`},
		{what: "reserved names are never shown", layers: `
			==
			dir .wh..wh.plnk
			file .wh..wh.aufs =data
			file .wh. =x
			==
			file a =1`, want: `a=1`, notKernel: aufs},
	})
}

func TestWhiteouts(t *testing.T) {
	const aufs = "the kernel knows no AUFS marks"
	const single = "the kernel lists whiteouts where only one layer takes part"
	runLayerCases(t, []layerCase{
		{what: "device", layers: `
			==
			dev f
			dev d
			dev e/f
			==
			file f =1
			file d/x =1
			file e/f =1
			file e/g =1`, want: `e/ e/g=1`},
		{what: "device of nothing", layers: "==\ndev f\n==\nfile g =1", want: `g=1`},
		{
			what: "device in a directory of one layer", layers: "==\ndev d/f\nfile d/g =1\n==\nfile x =1",
			want: `d/ d/g=1 x=1`, notKernel: single,
		},
		{what: "device below an object", layers: `
			==
			file f =1
			file d/a =1
			==
			dev f
			dev d
			==
			file f =3
			file d/c =3`, want: `f=1 d/ d/a=1`},
		{what: "attribute", layers: `
			==
			dir . t.opaque=x
			xwh f
			dir e t.opaque=x
			xwh e/f
			==
			file f =1
			file e/f =1
			file e/g =1`, want: `e/ e/g=1`},
		{what: "attribute of a rootless layer", layers: `
			==
			dir e u.opaque=x
			file e/f = u.whiteout=
			==
			file e/f =1
			file e/g =1`, want: `e/ e/g=1`, notKernel: "the kernel reads one namespace"},
		{what: "attribute on a file with content", layers: `
			==
			dir e t.opaque=x
			file e/f =data t.whiteout=
			==
			file e/f =1`, want: `e/ e/f=data`},
		{what: "AUFS", layers: `
			==
			file .wh.f =
			file .wh.d =
			file e/.wh.f =
			file .wh.nothing =
			==
			file f =1
			file d/x =1
			file e/f =1
			file e/g =1`, want: `e/ e/g=1`, notKernel: aufs},
		{what: "AUFS in a directory of one layer", layers: "==\nfile d/.wh.f =\nfile d/g =1", want: `d/ d/g=1`, notKernel: aufs},
		{what: "AUFS beside a file made again", layers: `
			==
			file .wh.f =
			file f =new
			==
			file f =old`, want: `f=new`, notKernel: aufs},
		{what: "AUFS beside a directory made again", layers: `
			==
			file .wh.d =
			file d/new =1
			==
			file d/old =2`, want: `d/ d/new=1`, notKernel: aufs},
		{what: "AUFS beside a link made again", layers: "==\nfile .wh.l =\nlink l ->x\n==\nfile l =2", want: `l->x`, notKernel: aufs},
		{what: "AUFS of a hidden name", layers: "==\nfile .wh..hid =\n==\nfile .hid =1\nfile hid =2", want: `hid=2`, notKernel: aufs},
		{what: "all three forms in one directory", layers: `
			==
			dir d t.opaque=x
			dev d/a
			xwh d/b
			file d/.wh.c =
			==
			file d/a =1
			file d/b =1
			file d/c =1
			file d/e =1`, want: `d/ d/e=1`, notKernel: aufs},
		{
			what: "a whiteout in the middle", layers: "==\nfile x =1\n==\nfile .wh.f =\ndev g\n==\nfile f =3\nfile g =3\nfile h =3",
			want: `x=1 h=3`, notKernel: aufs,
		},
		{
			what: "device 0:0 below an AUFS whiteout that is hidden", layers: "==\nfile f =1\n==\nfile .wh.f =\n==\nfile f =3",
			want: `f=1`, notKernel: aufs,
		},
	})
}

func TestOpaque(t *testing.T) {
	const aufs = "the kernel knows no AUFS marks"
	const ns = "the kernel reads one namespace"
	const below = "\n==\nfile d/old =2\nfile d/sub/x =2\nfile z =2"
	const want = `d/ d/new=1 z=2`
	runLayerCases(t, []layerCase{
		{what: "trusted", layers: "==\ndir d t.opaque=y\nfile d/new =1" + below, want: want},
		{what: "user", layers: "==\ndir d u.opaque=y\nfile d/new =1" + below, want: want, notKernel: ns},
		{what: "fuse-overlayfs", layers: "==\ndir d user.fuseoverlayfs.opaque=y\nfile d/new =1" + below, want: want, notKernel: ns},
		{what: "sentinel", layers: "==\nfile d/.wh..wh..opq =\nfile d/new =1" + below, want: want, notKernel: aufs},
		{
			what: "stray device", layers: "==\nfile d/.wh..opq =\nfile d/new =1" + below,
			want: `d/ d/new=1 d/old=2 d/sub/ d/sub/x=2 z=2`, notKernel: aufs,
		},
		{what: "x merges", layers: "==\ndir d t.opaque=x\nfile d/new =1" + below, want: `d/ d/new=1 d/old=2 d/sub/ d/sub/x=2 z=2`},
		{
			what: "opaque in the middle", layers: "==\nfile d/top =0\n==\ndir d t.opaque=y\nfile d/new =1" + below,
			want: `d/ d/new=1 d/top=0 z=2`,
		},
		{what: "opaque parent, plain child", layers: `
			==
			dir d t.opaque=y
			file d/sub/new =1
			==
			file d/sub/old =2`, want: `d/ d/sub/ d/sub/new=1`},
		{what: "opaque child", layers: `
			==
			dir d/sub t.opaque=y
			==
			file d/sub/old =2
			file d/keep =2`, want: `d/ d/sub/ d/keep=2`},
		{what: "sentinel in the root", layers: "==\nfile .wh..wh..opq =\nfile a =1" + below, want: `a=1`, notKernel: aufs},
		{
			what: "the other namespace's in a layer of the kernel", layers: "==\ndir . t.impure=y\ndir d u.opaque=y\nfile d/new =1" + below,
			want: `d/ d/new=1 d/old=2 d/sub/ d/sub/x=2 z=2`,
		},
		{
			what: "fuse-overlayfs's in a layer of the kernel", layers: "==\ndir . t.impure=y\ndir d user.fuseoverlayfs.opaque=y\nfile d/new =1" + below,
			want: `d/ d/new=1 d/old=2 d/sub/ d/sub/x=2 z=2`,
		},
		{
			what: "opaque attribute of a root counts for nothing", layers: "==\ndir . t.opaque=y\nfile a =1" + below,
			want: `a=1 d/ d/old=2 d/sub/ d/sub/x=2 z=2`,
		},
	})
}

// TestEveryKindOverEveryKind goes through all pairs and compares with the kernel.
func TestEveryKindOverEveryKind(t *testing.T) {
	kinds := map[string]string{
		"nothing": "",
		"file":    "file x =N",
		"dir":     "file x/N =N",
		"opaque":  "dir x t.opaque=y\nfile x/N =N",
		"link":    "link x ->N",
		"fifo":    "fifo x",
		"device":  "dev x",
	}
	for top, a := range kinds {
		for mid, b := range kinds {
			t.Run(top+" over "+mid, func(t *testing.T) {
				layers := ""
				for i, k := range []string{a, b, kinds["dir"]} {
					layers += "==\n" + replaceN(k, byte('1'+i)) + "\n"
				}
				dirs := buildLayers(t, layers)
				want := dumpDir(t, mountKernel(t, dirs))
				if got := dumpStack(t, openStack(t, dirs, DirOptions{})); got != want {
					t.Errorf("the union shows\n%s\nthe kernel\n%s", got, want)
				}
			})
		}
	}
}

func replaceN(s string, n byte) string {
	b := []byte(s)
	for i := range b {
		if b[i] == 'N' {
			b[i] = n
		}
	}
	return string(b)
}

func TestLookupErrors(t *testing.T) {
	s := openStack(t, buildLayers(t, "==\nfile f =1\nfile d/x =1\nlink l ->d"), userOptions)
	for path, want := range map[string]error{
		"f": nil, "/d/x": nil, "": nil, "/": nil, "./d/.//x": nil, "l": nil,
		"nothing": unix.ENOENT, "d/nothing": unix.ENOENT, "f/x": unix.ENOTDIR, "l/x": unix.ENOTDIR,
		"d/../f": unix.EINVAL, "..": unix.EINVAL,
	} {
		if _, err := s.Walk(path); err != want {
			t.Errorf("Walk(%q): %v, want %v", path, err, want)
		}
	}
	long := make([]byte, 256)
	for i := range long {
		long[i] = 'a'
	}
	if _, err := s.Walk(string(long)); err != unix.ENOENT {
		t.Errorf("a name of 256 bytes: %v, want ENOENT", err)
	}
	if _, err := New(nil).Walk("a"); err != unix.ENOENT {
		t.Errorf("a stack without layers: %v, want ENOENT", err)
	}
}
