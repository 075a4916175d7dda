// Package tui is the terminal explorer: three panes over one model of package
// inspect, and a viewer for what is in a file. It only shows and takes keys.
//
//	Explorer   the state: which view, what is selected, what is open
//	lens       what the tree shows of the model, and in which order; immutable
//	tree       the rows that are open, of which only the visible ones are drawn
//	detail     what was loaded of the selected path
//	viewer     one file, hex dump or difference on the whole screen
//
// Explorer knows no terminal: keys come in by name (Key), screen gives lines of
// styled text, and what takes time is handed out as tasks. Run connects it with
// bubbletea. Tests take the same lines as plain text.
//
// Everything that comes from a layer (names, targets, contents, commands) goes
// through clean before it is shown: no escape sequence of an image reaches the
// terminal.
package tui
