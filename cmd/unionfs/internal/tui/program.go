package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// Run shows the explorer on a terminal until the user leaves it or ctx ends.
// title says what the model is of.
func Run(ctx context.Context, m *inspect.Model, title string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := tea.NewProgram(&program{x: New(ctx, m, title)}, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out))
	_, err := p.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, tea.ErrInterrupted):
		return context.Canceled
	case err != nil:
		return fmt.Errorf("run the explorer: %w", err)
	}
	return nil
}

// program connects an Explorer with bubbletea.
type program struct{ x *Explorer }

// doneMsg is the result of a task.
type doneMsg struct{ result any }

// Init is of tea.Model.
func (p *program) Init() tea.Cmd { return nil }

// Update is of tea.Model.
func (p *program) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	x := p.x
	var cmds []tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		x.Resize(msg.Width, msg.Height)
		x.settle()
	case tea.KeyPressMsg:
		if msg.String() == "ctrl+z" {
			return p, tea.Suspend
		}
		x.Key(msg.String(), msg.Text)
	case tea.PasteMsg:
		x.Paste(msg.Content)
	case tea.MouseClickMsg:
		if msg.Button == tea.MouseLeft {
			x.Click(msg.X, msg.Y)
		}
	case tea.MouseWheelMsg:
		switch msg.Button {
		case tea.MouseWheelUp:
			x.Wheel(msg.X, msg.Y, -wheelLines)
		case tea.MouseWheelDown:
			x.Wheel(msg.X, msg.Y, wheelLines)
		default:
		}
	case doneMsg:
		x.Done(msg.result)
	}
	for _, t := range x.takeTasks() {
		cmds = append(cmds, func() tea.Msg { return doneMsg{t()} })
	}
	if x.copied != "" {
		cmds = append(cmds, tea.SetClipboard(x.copied))
		x.copied = ""
	}
	if x.quit {
		return p, tea.Quit
	}
	return p, tea.Batch(cmds...)
}

// View is of tea.Model.
func (p *program) View() tea.View {
	var b strings.Builder
	for i, l := range p.x.screen() {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, s := range mark(l) {
			b.WriteString(look(s.style).Render(s.text))
		}
	}
	v := tea.NewView(b.String())
	v.AltScreen = true
	v.MouseMode = tea.MouseModeCellMotion
	v.WindowTitle = "unionfs explore " + p.x.title
	return v
}

// palette are the colours, of the sixteen that the user's terminal defines.
// Without colours bold, faint and reverse are left, and nothing is told by
// colour alone.
var palette = map[style]lipgloss.Style{
	plain:     lipgloss.NewStyle(),
	dim:       lipgloss.NewStyle().Faint(true),
	strong:    lipgloss.NewStyle().Bold(true),
	heading:   lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Cyan),
	added:     lipgloss.NewStyle().Foreground(lipgloss.Green),
	modified:  lipgloss.NewStyle().Foreground(lipgloss.Yellow),
	deleted:   lipgloss.NewStyle().Foreground(lipgloss.Red),
	gone:      lipgloss.NewStyle().Foreground(lipgloss.Red).Faint(true),
	directory: lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Blue),
	link:      lipgloss.NewStyle().Foreground(lipgloss.Cyan),
	bar:       lipgloss.NewStyle().Foreground(lipgloss.Blue),
	hit:       lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Yellow),
	failure:   lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red),
}

func look(s style) lipgloss.Style {
	l := palette[s&^reversed]
	if s&reversed != 0 {
		return l.Reverse(true)
	}
	return l
}

// wheelLines is how far one step of the mouse wheel scrolls.
const wheelLines = 3
