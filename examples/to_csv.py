"""Makes a CSV of what `econtext call --jsonl` printed: a row a host that answered, a column a key.

    econtext call --jsonl --path examples @web facts:everything | python3 examples/to_csv.py > facts.csv
"""
import csv
import json
import sys

rows = []
for line in sys.stdin:
    event = json.loads(line)
    if event['event'] == 'result' and event['ok']:
        rows.append(dict(event['value'], host=event['host']))
    elif event['event'] == 'result':
        sys.stderr.write('%s: %s\n' % (event['host'], event['kind']))
columns = ['host'] + sorted({key for row in rows for key in row} - {'host'})
out = csv.DictWriter(sys.stdout, columns)
out.writeheader()
out.writerows(sorted(rows, key=lambda row: row['host']))
