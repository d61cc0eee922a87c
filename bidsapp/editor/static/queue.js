// The queue of sides: filters, counts, time left, and a list of which only the rows on screen are built.

const ROW_PIXELS = 44;
const SPARE_ROWS = 6;
const STATUS_WORDS = {
  pending: 'pending',
  approved: 'approved',
  rejected: 'rejected',
  needs_edit: 'needs edit',
  refused: 'refused',
};
const OPEN = new Set(['pending', 'needs_edit', 'refused']);

export const FILTERS = {
  pending: { words: 'Open', passes: (side) => OPEN.has(side.status) },
  eyes: {
    words: 'Red and amber',
    passes: (side) => OPEN.has(side.status) && (side.level === 'red' || side.level === 'amber'),
  },
  mine: {
    words: 'Mine',
    passes: (side, rater) => Boolean(rater) && side.rater?.trim().toLowerCase() === rater.toLowerCase(),
  },
  all: { words: 'All', passes: () => true },
};

/** `sub-01_ses-1_hemi-L` -> `01, ses 1, left`. */
export function sideWords({ participant, session, hemi }) {
  return [participant, session && `ses ${session}`, hemi === 'L' ? 'left' : 'right'].filter(Boolean).join(', ');
}

export function statusWords(status) {
  return STATUS_WORDS[status] ?? status;
}

/** Seconds that the open sides will take, at the mean of those that time was spent on; null: nobody knows. */
export function secondsLeft(sides) {
  const spent = sides
    .filter((side) => !OPEN.has(side.status) && side.seconds_spent > 0)
    .map((side) => side.seconds_spent);
  if (!spent.length) return null;
  const mean = spent.reduce((sum, one) => sum + one, 0) / spent.length;
  return mean * sides.filter((side) => OPEN.has(side.status)).length;
}

export function durationWords(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export class Queue {
  /** `element` holds #filters, #counts and #list; `onOpen(id)` is called for a side that was chosen. */
  constructor(element, onOpen) {
    this.element = element;
    this.onOpen = onOpen;
    this.sides = [];
    this.shown = [];
    this.filter = 'pending';
    this.rater = '';
    this.current = null;
    this.list = element.querySelector('#list');
    this.space = element.querySelector('#list-space');
    this.list.addEventListener('scroll', () => this.#build());
    this.list.addEventListener('click', (event) => {
      const row = event.target.closest('[data-id]');
      if (row) this.onOpen(row.dataset.id);
    });
    new ResizeObserver(() => this.#build()).observe(this.list);
    this.#buildFilters();
  }

  setSides(sides) {
    this.sides = sides;
    this.#refresh();
  }

  setRater(rater) {
    this.rater = rater;
    this.#refresh();
  }

  setFilter(filter) {
    this.filter = filter;
    this.list.scrollTop = 0;
    this.#refresh();
  }

  /** Mark the side that is on the desk and bring it into sight. */
  setCurrent(id) {
    this.current = id;
    const at = this.shown.findIndex((side) => side.id === id);
    const [top, height] = [at * ROW_PIXELS, this.list.clientHeight];
    if (at >= 0 && (top < this.list.scrollTop || top + ROW_PIXELS > this.list.scrollTop + height))
      this.list.scrollTop = top - height / 2;
    this.#build();
  }

  /** The id of the side after (1) or before (-1) one, of those that the filter lets pass; null: there is no other. */
  neighbour(id, step) {
    const { passes } = FILTERS[this.filter];
    const at = this.sides.findIndex((side) => side.id === id);
    for (let n = 1; n <= this.sides.length; n++) {
      const side = this.sides[(((at + n * step) % this.sides.length) + this.sides.length) % this.sides.length];
      if (side.id !== id && passes(side, this.rater)) return side.id;
    }
    return null;
  }

  #refresh() {
    for (const [name, { passes }] of Object.entries(FILTERS)) {
      const button = this.element.querySelector(`[data-filter="${name}"]`);
      const count = this.sides.filter((side) => passes(side, this.rater)).length;
      button.querySelector('.count').textContent = count.toLocaleString('en');
      button.setAttribute('aria-pressed', String(name === this.filter));
    }
    this.shown = this.sides.filter((side) => FILTERS[this.filter].passes(side, this.rater));
    this.space.style.height = `${this.shown.length * ROW_PIXELS}px`;
    this.element.querySelector('#counts').textContent = this.#countWords();
    this.#build();
  }

  #countWords() {
    const decided = this.sides.filter((side) => !OPEN.has(side.status)).length;
    const left = secondsLeft(this.sides);
    const words = `${decided.toLocaleString('en')} of ${this.sides.length.toLocaleString('en')} sides decided`;
    return left ? `${words}, about ${durationWords(left)} left at this pace` : words;
  }

  #buildFilters() {
    const filters = this.element.querySelector('#filters');
    for (const [name, { words }] of Object.entries(FILTERS)) {
      const button = document.createElement('button');
      button.type = 'button';
      button.dataset.filter = name;
      const count = document.createElement('span');
      count.className = 'count';
      button.append(`${words} `, count);
      button.addEventListener('click', () => this.setFilter(name));
      filters.append(button);
    }
  }

  #build() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_PIXELS) - SPARE_ROWS);
    const last = Math.min(
      this.shown.length,
      Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW_PIXELS) + SPARE_ROWS,
    );
    const rows = [];
    for (let n = first; n < last; n++) rows.push(this.#row(this.shown[n], n));
    if (!this.shown.length) rows.push(span('nothing', this.sides.length ? 'No side here.' : 'There are no sides yet.'));
    this.space.replaceChildren(...rows);
  }

  #row(side, n) {
    const row = document.createElement('button');
    row.type = 'button';
    row.className = `row status-${side.status}`;
    row.dataset.id = side.id;
    row.style.transform = `translateY(${n * ROW_PIXELS}px)`;
    if (side.id === this.current) row.setAttribute('aria-current', 'true');
    if (side.reasons?.length) row.title = side.reasons.join('\n');
    row.append(span('who', sideWords(side)));
    row.append(span(`level level-${side.level ?? 'none'}`, side.level ?? ''));
    const by = side.rater && side.status !== 'pending' ? ` by ${side.rater}` : '';
    row.append(span('what', `${statusWords(side.status)}${by}${side.corrected ? ', corrected' : ''}`));
    row.append(span('trust', typeof side.trust === 'number' ? `trust ${side.trust.toFixed(2)}` : ''));
    return row;
  }
}

function span(name, words) {
  const element = document.createElement('span');
  element.className = name;
  element.textContent = words;
  return element;
}
