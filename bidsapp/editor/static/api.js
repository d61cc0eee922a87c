// Talk to the server. Every answer that is not good becomes an ApiError with the server's own words.

export class ApiError extends Error {
  /** `facts`: what the server said beside message and hint, such as holder, version or findings. */
  constructor(status, facts) {
    super([facts.message, facts.hint].filter(Boolean).join(' ') || `the server answered ${status}`);
    this.status = status;
    this.facts = facts;
  }
}

export class Api {
  /** `tab` names this browser tab: one tab has a side at a time. */
  constructor(token, tab) {
    this.token = token;
    this.tab = tab;
    this.queueTag = null;
    this.queueFacts = null;
  }

  /** The queue; asked again, the same object where nothing changed. */
  async queue() {
    const headers = this.queueTag ? { 'If-None-Match': this.queueTag } : {};
    const response = await this.#send('GET', '/api/queue', { headers, cache: 'no-cache' });
    if (response.status !== 304) {
      this.queueTag = response.headers.get('ETag');
      this.queueFacts = await response.json();
    }
    return this.queueFacts;
  }

  side(id) {
    return this.#json('GET', sidePath(id));
  }

  findings(id) {
    return this.#json('GET', sidePath(id, 'findings'));
  }

  async file(url) {
    return (await this.#send('GET', url, { cache: 'no-store' })).arrayBuffer();
  }

  hold(id, rater) {
    return this.#json('POST', sidePath(id, 'hold'), { json: { tab: this.tab, rater } });
  }

  /** Also while the page is being closed. */
  release(id) {
    return this.#send('DELETE', sidePath(id, 'hold'), { json: { tab: this.tab }, keepalive: true });
  }

  putDraft(id, version, bytes) {
    return this.#send('PUT', sidePath(id, 'draft'), {
      body: bytes,
      headers: { 'X-Version': version, 'Content-Type': 'application/octet-stream' },
    });
  }

  deleteDraft(id) {
    return this.#send('DELETE', sidePath(id, 'draft'));
  }

  save(id, facts) {
    return this.#json('POST', sidePath(id, 'save'), { json: { tab: this.tab, ...facts } });
  }

  decide(id, facts) {
    return this.#json('POST', sidePath(id, 'decision'), { json: { tab: this.tab, ...facts } });
  }

  async #json(method, path, options) {
    return (await this.#send(method, path, options)).json();
  }

  async #send(method, path, { json, headers = {}, ...options } = {}) {
    const all = { 'X-Tab': this.tab, 'X-HippoTune-Token': this.token, ...headers };
    if (json !== undefined) {
      all['Content-Type'] = 'application/json';
      options.body = JSON.stringify(json);
    }
    let response;
    try {
      response = await fetch(path, { method, headers: all, credentials: 'same-origin', ...options });
    } catch {
      throw new ApiError(0, {
        message: 'The server does not answer.',
        hint: 'Is `review --serve` still running? Nothing is lost: your strokes are kept here and sent when it is back.',
      });
    }
    if (!response.ok && response.status !== 304) throw new ApiError(response.status, await wordsOf(response));
    return response;
  }
}

function sidePath(id, what = '') {
  return `/api/sides/${encodeURIComponent(id)}${what && `/${what}`}`;
}

async function wordsOf(response) {
  try {
    return await response.json();
  } catch {
    return { message: `the server answered ${response.status} ${response.statusText}` };
  }
}
