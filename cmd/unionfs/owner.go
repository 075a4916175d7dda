package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/unionfs-go/unionfs/fs"
	"github.com/unionfs-go/unionfs/internal/mountopt"
	"github.com/unionfs-go/unionfs/internal/sys"
)

// ownershipOf is whose the objects of a mount are. Who may not change owners,
// which is everybody but root and the root of a user namespace, has owners,
// modes and devices remembered, unless he says otherwise.
func ownershipOf(o *mountopt.Options) fs.Ownership {
	w := fs.Ownership{
		UIDs: idRanges(o.UIDs), GIDs: idRanges(o.GIDs),
		SquashUID: o.SquashUID, SquashGID: o.SquashGID,
	}
	switch o.Owner {
	case "", mountopt.OwnerImage:
	case mountopt.OwnerMe:
		uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
		w.SquashUID, w.SquashGID = &uid, &gid
	default:
		uid, gid, _ := mountopt.ParseOwner(o.Owner) // package mountopt has checked it
		w.SquashUID, w.SquashGID = &uid, &gid
	}
	switch {
	case o.XattrPermissions != nil:
		w.Remember = [...]fs.Remember{fs.RememberNone, fs.RememberSecurity, fs.RememberUser}[*o.XattrPermissions]
	case o.Owner == mountopt.OwnerImage, !sys.HasCap(unix.CAP_CHOWN):
		w.Remember = fs.RememberNeeded
	}
	return w
}

func idRanges(list []mountopt.IDRange) []fs.IDRange {
	var out []fs.IDRange
	for _, r := range list {
		out = append(out, fs.IDRange(r))
	}
	return out
}

// allIsHis tells whether permissions are not checked in a mount: it is a plain
// user's, nobody else can enter it, and he shall always be able to read, change
// and remove what is in it, whoever it seems to belong to.
func allIsHis(o *mountopt.Options) bool {
	return ownershipOf(o).Remember == fs.RememberNeeded && !sys.HasCap(unix.CAP_SYS_ADMIN) &&
		!o.AllowOther && !o.DefaultPermissions
}
