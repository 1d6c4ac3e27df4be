"""The six shapes of runs: their templates, and what each run of them is to come to."""

from __future__ import annotations

CHILD = """
name: chaos-child
variables: {w: {type: string, required: true}, n: {type: integer, required: true}}
steps:
  - {id: one, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/one?slow=20", json: {}}}
  - {id: two, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/two", json: {}}}
output: {twice: "${{ vars.n * 2 }}"}
"""

TEMPLATES = {
    "chain": """
name: chaos-chain
variables: {w: {type: string, required: true}}
steps:
  - {id: a, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/a?slow=30", json: {}}}
  - {id: b, call: {handler: echo, input: {n: 1}}}
  - {id: c, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/c?slow=80", json: {}}}
  - {id: d, set: {n: "${{ steps.b.output.n + 1 }}"}}
  - {id: e, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/e", json: {}}}
output: {n: "${{ steps.d.output.n }}"}
""",
    "fan": """
name: chaos-fan
variables: {w: {type: string, required: true}}
steps:
  - id: both
    parallel:
      branches:
        left: [{id: l, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/l?slow=40", json: {}}}]
        right: [{id: r, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/r?slow=10", json: {}}}]
  - id: each
    foreach:
      items: [1, 2, 3, 4]
      concurrency: 2
      steps:
        - {id: get, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/get-${{ index }}?slow=20", json: {}}}
      output: "${{ item * 2 }}"
output: {n: "${{ steps.each.output.sum() }}"}
""",
    "gate": """
name: chaos-gate
variables: {w: {type: string, required: true}}
steps:
  - {id: before, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/before", json: {}}}
  - {id: ask, approval: {title: "Go on?", approvers: {groups: [editors]}, expires: {after: 1h, then: reject}}}
  - {id: after, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/after?slow=20", json: {}}}
output: {n: 1}
""",
    "wait": """
name: chaos-wait
variables: {w: {type: string, required: true}}
steps:
  - {id: go, wait_for: {signal: go, timeout: {after: 1h}}}
  - id: tell
    http:
      method: POST
      url: "${{ vars.w }}/${{ run.id }}/tell"
      json: {callback: "${{ run.callbacks.scan }}"}
  - {id: nap, wait: {for: 1s}}
  - {id: scanned, wait_for: {callback: scan, timeout: {after: 1h}}}
  - {id: last, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/last", json: {}}}
output: {n: "${{ steps.scanned.output.payload.scanned ? 1 : 0 }}"}
""",
    "children": """
name: chaos-children
variables: {w: {type: string, required: true}}
steps:
  - {id: first, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/first", json: {}}}
  - id: each
    foreach:
      items: [1, 2]
      steps: [{id: sub, workflow: {template: chaos-child, input: {w: "${{ vars.w }}", n: "${{ item }}"}}}]
      output: "${{ steps.sub.output.twice }}"
output: {n: "${{ steps.each.output.sum() }}"}
""",
    "undo": """
name: chaos-undo
variables: {w: {type: string, required: true}, fails: {type: boolean, required: true}}
defaults: {retry: {max_attempts: 6, initial: 100ms, max: 1s}}
steps:
  - id: reserve
    http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/reserve", json: {}}
    compensate: {http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/undo-reserve", json: {}}}
  - id: pay
    http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/pay?flaky=2", json: {}}
    compensate: {http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/undo-pay?flaky=1", json: {}}}
  - id: ship
    http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/ship?${{ vars.fails ? 'broken=1' : 'slow=20' }}", json: {}}
output: {n: 1}
""",
}

#: What `output.n` of a completed run is.
GIVES = {"chain": 2, "fan": 20, "gate": 1, "wait": 1, "children": 6, "undo": 1}
#: Names of the steps the witness must have been called by when a run of the shape completed.
CALLS = {
    "chain": {"a", "c", "e"},
    "fan": {"l", "r", "get-0", "get-1", "get-2", "get-3"},
    "gate": {"before", "after"},
    "wait": {"tell", "last"},
    "children": {"first"},
    "undo": {"reserve", "pay", "ship"},
}
