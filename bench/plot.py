"""Draws what bench/run measured as SVG, with nothing but the standard library."""
import html
import math

COLORS = {'floor': '#8a8f98', 'econtext': '#2f6fde', 'python': '#7aa5f0', 'mitogen': '#d9822b', 'execnet': '#3a9d5d'}
LEFT, WIDTH, BAR = 300, 520, 13


def ratios(rows):
    """Bars of how many times econtext's cost each has, on a logarithmic scale: longer is worse."""
    out, y = [], 56
    for title, unit, more, medians in rows:
        ours = medians.get('econtext')
        if not ours or len(medians) < 2:
            continue
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (LEFT - 12, y + BAR * len(medians) / 2 + 5, html.escape(title)))
        for peer in COLORS:
            value = medians.get(peer)
            if not value or value <= 0:
                continue
            cost = ours / value if more else value / ours
            length = position(cost)
            shown = '%.0f' % value if value >= 100 else '%.3g' % value
            out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (LEFT, y, length, BAR - 2, COLORS[peer]))
            out.append('<text x="%.1f" y="%d" font-size="10" fill="#555">%s %s</text>' % (LEFT + length + 4, y + BAR - 4, shown, unit))
            y += BAR
        y += 12
    grid = []
    for cost in (0.25, 0.5, 1, 2, 4, 8, 16):
        x = LEFT + position(cost)
        grid.append('<line x1="%.1f" y1="44" x2="%.1f" y2="%d" stroke="%s"/>' % (x, x, y, '#2f6fde' if cost == 1 else '#e4e6ea'))
        grid.append('<text x="%.1f" y="38" text-anchor="middle" font-size="10" fill="#555">× %g</text>' % (x, cost))
    legend = []
    for i, peer in enumerate(COLORS):
        legend.append('<rect x="%d" y="10" width="11" height="11" fill="%s"/><text x="%d" y="20">%s</text>' % (
            LEFT + 110 * i, COLORS[peer], LEFT + 110 * i + 16, peer))
    return ('<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">'
            '<rect width="100%" height="100%" fill="white"/><g font-family="sans-serif" font-size="12" fill="#222">{2}</g></svg>\n').format(
                LEFT + WIDTH + 90, y + 12, '\n'.join(grid + legend + out))


def position(cost):
    """Pixels of a cost: × 1/8 to × 32."""
    return max(2, min(1, (math.log2(cost) + 3) / 8) * WIDTH)
