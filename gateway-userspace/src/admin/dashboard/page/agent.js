// Questions to the agent. What it says has not changed is not sent again.

const PATIENCE = 8000;
const KEPT = 24;
const known = new Map();

/** What is answered at `/dashboard/…`, as JSON; an Error with the agent's words if it is refused. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "" && value !== false));
  const url = `/dashboard/${path}${query.size > 0 ? `?${query}` : ""}`;
  const before = known.get(url);
  const answer = await fetch(url, {
    headers: before ? { "if-none-match": before.tag } : {},
    // What is known is kept here.
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 304 && before) return before.body;
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
  const body = await answer.json();
  const tag = answer.headers.get("etag");
  if (tag) remember(url, { tag, body });
  return body;
}

function remember(url, answer) {
  known.delete(url);
  known.set(url, answer);
  if (known.size > KEPT) known.delete(known.keys().next().value);
}
