package bench

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"math"
)

// The drawing's measures, in pixels.
const (
	chartLeft  = 330 // where the bars' axis begins
	chartWidth = 560
	chartRight = 70
	chartTop   = 74
	barHeight  = 11
	barGap     = 9 // between workloads
)

// barColours are told apart by people who do not see all colours, too (Okabe and
// Ito); the grey is for the plain directory.
var barColours = []string{"#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"}

const bareColour = "#B0B0B0"

// chart is the drawing of a report's ratios: bars on a logarithmic axis, to the
// right of the line at 1 what is slower than the kernel, to the left what is
// faster.
type chart struct {
	Width, Height, Bottom int
	One                   int // x of the ratio 1
	Title, Sub            string
	Legend                []legend
	Ticks                 []tick
	Rows                  []chartRow
}

type legend struct {
	X      int
	Colour string
	Text   string
}

type tick struct {
	X    int
	Text string
}

type chartRow struct {
	Y     int // base line of the label
	Label string
	Bold  bool
	Bars  []bar
}

type bar struct {
	X, Y, Width, Height int
	Colour              string
	TextX, TextY        int
	Text                string
	Hint                string
}

// axis maps ratios to places.
type axis struct{ low, high float64 }

func (a axis) x(ratio float64) int {
	f := (math.Log(ratio) - math.Log(a.low)) / (math.Log(a.high) - math.Log(a.low))
	return chartLeft + int(math.Round(f*chartWidth))
}

// draw lays out the chart of a report.
func (r *Report) draw() chart {
	var columns []int
	c := chart{Width: chartLeft + chartWidth + chartRight, Title: "Time compared with the kernel's overlayfs"}
	for _, i := range r.columns() {
		if r.showsRatio(i) {
			columns = append(columns, i)
		}
	}
	a := r.axisOf()
	c.One = a.x(1)
	c.Sub = fmt.Sprintf("right of the line at 1 is slower, left is faster; medians; Linux %s, %s, %s", r.Environment.Kernel, r.Environment.CPU, r.Environment.Filesystem)
	colours, x := r.colours(columns), 16
	for _, i := range columns {
		c.Legend = append(c.Legend, legend{x, colours[i], r.Targets[i].Name})
		x += 30 + 8*len(r.Targets[i].Name)
	}
	for _, v := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000} {
		if v >= a.low && v <= a.high {
			c.Ticks = append(c.Ticks, tick{a.x(v), fmt.Sprint(v)})
		}
	}
	y := chartTop
	add := func(label string, bold bool, ratio func(i int) float64) {
		row := chartRow{Label: label, Bold: bold}
		top := y
		for _, i := range columns {
			if v := ratio(i); v > 0 {
				row.Bars = append(row.Bars, a.bar(v, y, colours[i], r.Targets[i].Name))
				y += barHeight
			}
		}
		if len(row.Bars) > 0 {
			row.Y = (top+y)/2 + 4
			c.Rows = append(c.Rows, row)
			y += barGap
		}
	}
	add("geometric mean", true, func(i int) float64 { return r.mean(r.Targets[i].Name) })
	for _, w := range r.measured() {
		if w.Unit != unitSeconds {
			continue
		}
		add(w.Title, false, func(i int) float64 { return w.Results[i].Ratio })
	}
	c.Bottom = y
	c.Height = y + 24
	return c
}

// bar is a ratio as a bar from the line at 1.
func (a axis) bar(ratio float64, y int, colour, name string) bar {
	from, to := a.x(1), a.x(ratio)
	text := to + 4
	if to < from {
		from, to = to, from
		text = to + 4
	}
	return bar{
		X: from, Y: y, Width: max(to-from, 1), Height: barHeight - 1, Colour: colour,
		TextX: text, TextY: y + barHeight - 2, Text: digits(ratio), Hint: fmt.Sprintf("%s: x%s", name, digits(ratio)),
	}
}

// axisOf is the range of the ratios, at least from a half to 2, with some room.
func (r *Report) axisOf() axis {
	a := axis{0.5, 2}
	for _, w := range r.Workloads {
		for _, result := range w.Results {
			if result.Ratio > 0 {
				a.low, a.high = min(a.low, result.Ratio*0.9), max(a.high, result.Ratio*1.1)
			}
		}
	}
	return a
}

func (r *Report) colours(columns []int) map[int]string {
	colours, next := make(map[int]string), 0
	for _, i := range columns {
		if r.Targets[i].Name == bareName {
			colours[i] = bareColour
			continue
		}
		colours[i] = barColours[next%len(barColours)]
		next++
	}
	return colours
}

var svgTemplate = template.Must(template.New("svg").Parse(
	`<svg xmlns="http://www.w3.org/2000/svg" width="{{.Width}}" height="{{.Height}}" viewBox="0 0 {{.Width}} {{.Height}}" font-family="Helvetica, Arial, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="16" y="22" font-size="16" font-weight="bold">{{.Title}}</text>
<text x="16" y="39" fill="#555">{{.Sub}}</text>
{{range .Legend}}<rect x="{{.X}}" y="48" width="12" height="12" fill="{{.Colour}}"/><text x="{{.X}}" dx="17" y="58">{{.Text}}</text>
{{end}}{{$bottom := .Bottom}}{{range .Ticks}}<line x1="{{.X}}" y1="68" x2="{{.X}}" y2="{{$bottom}}" stroke="#ddd"/><text x="{{.X}}" y="{{$bottom}}" dy="15" text-anchor="middle" fill="#555">{{.Text}}</text>
{{end}}<line x1="{{.One}}" y1="66" x2="{{.One}}" y2="{{.Bottom}}" stroke="#222" stroke-width="1.5"/>
{{range .Rows}}<text x="322" y="{{.Y}}" text-anchor="end"{{if .Bold}} font-weight="bold"{{end}}>{{.Label}}</text>
{{range .Bars}}<rect x="{{.X}}" y="{{.Y}}" width="{{.Width}}" height="{{.Height}}" fill="{{.Colour}}"><title>{{.Hint}}</title></rect><text x="{{.TextX}}" y="{{.TextY}}" font-size="10" fill="#333">{{.Text}}</text>
{{end}}{{end}}</svg>
`))

// WriteSVG draws the ratios of a report.
func (r *Report) WriteSVG(w io.Writer) error {
	if err := svgTemplate.Execute(w, r.draw()); err != nil {
		return fmt.Errorf("draw report: %w", err)
	}
	return nil
}

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>unionfs bench</title>
<style>
body { font: 14px/1.5 Helvetica, Arial, sans-serif; margin: 2em auto; max-width: 64em; padding: 0 1em; color: #222; }
svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.group { font-weight: bold; padding-top: 1em; }
td small { color: #777; }
tfoot td { font-weight: bold; }
</style>
</head>
<body>
<h1>unionfs bench</h1>
<p>{{range .Head}}{{.}}<br>{{end}}</p>
{{.Drawing}}
<h2>Medians</h2>
<p>Median, median absolute deviation, and the ratio to the kernel's overlayfs in the same run.</p>
<div class="wide">
<table>
<thead><tr><th>workload</th>{{range .Columns}}<th>{{.}}</th>{{end}}</tr></thead>
<tbody>
{{range .Rows}}{{if .Group}}<tr><td class="group" colspan="99">{{.Group}}</td></tr>
{{end}}<tr><td>{{.Title}}</td>{{range .Cells}}<td>{{if .Ratio}}<b>{{.Ratio}}</b> {{end}}<small>{{.Value}}</small></td>{{end}}</tr>
{{end}}</tbody>
<tfoot><tr><td>geometric mean</td>{{range .Means}}<td>{{.}}</td>{{end}}</tr></tfoot>
</table>
</div>
{{if .Skips}}<h2>Not measured</h2>
<ul>
{{range .Skips}}<li><b>{{.What}}</b>: {{.Why}}</li>
{{end}}</ul>
{{end}}</body>
</html>
`))

type pageRow struct {
	Group, Title string
	Cells        []pageCell
}

type pageCell struct{ Value, Ratio string }

// WriteHTML writes a report as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	var drawing bytes.Buffer
	if err := r.WriteSVG(&drawing); err != nil {
		return err
	}
	page := struct {
		Head, Columns, Means []string
		Drawing              template.HTML
		Rows                 []pageRow
		Skips                []skip
	}{Head: r.headline(), Drawing: template.HTML(drawing.String()), Skips: r.skips()} //nolint:gosec // escaped by its own template
	group := ""
	for _, i := range r.columns() {
		page.Columns = append(page.Columns, r.Targets[i].Name)
		page.Means = append(page.Means, ratioText(r.mean(r.Targets[i].Name)))
	}
	for _, w := range r.measured() {
		row := pageRow{Title: w.Title}
		if w.Group != group {
			group = w.Group
			row.Group = group
		}
		for _, i := range r.columns() {
			c := pageCell{Value: cell(w.Results[i], w.Unit)}
			if r.showsRatio(i) {
				c.Ratio = ratioText(w.Results[i].Ratio)
			}
			row.Cells = append(row.Cells, c)
		}
		page.Rows = append(page.Rows, row)
	}
	if err := pageTemplate.Execute(w, page); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}
