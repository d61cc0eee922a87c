// What stands beside and above the picture: labels, tools, findings, state. It shows the desk and reports clicks.

import { KEYS, keyOf } from './keys.js';
import { sideWords, statusWords } from './queue.js';

export const TOOLS = { navigate: 'Crosshair', disc: 'Brush', ball: 'Ball', lasso: 'Lasso' };
const COMMANDS = {
  undo: 'Undo',
  redo: 'Redo',
  interpolate: 'Fill between',
  copyBefore: 'Copy slice',
  grow: 'Grow',
  shrink: 'Shrink',
  keepLargest: 'Largest piece',
};
const LOOKS = {
  view: 'View',
  outline: 'Outline',
  hide: 'Hide',
  before: 'Before/after',
  secondImage: 'T1w/T2w',
  otherSide: 'Other side',
};
const DRAFT_WORDS = { none: '', waiting: 'strokes not sent yet', sending: 'sending strokes …', saved: 'draft kept' };

export const element = (id) => document.getElementById(id);

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function actionButton(action, words) {
  const button = make('button', { type: 'button' }, words, ' ', make('kbd', {}, keyOf(action)));
  button.dataset.action = action;
  button.title = Object.values(KEYS)
    .flat()
    .find(([, one]) => one === action)[2];
  return button;
}

export class Panel {
  /** `run(action, detail)` does what a button says. */
  constructor(run) {
    this.run = run;
    const group = (words, actions) => {
      const buttons = Object.entries(actions).map(([action, name]) => actionButton(action, name));
      const made = make('span', { className: 'group' }, ...buttons);
      made.setAttribute('role', 'group');
      made.setAttribute('aria-label', words);
      return made;
    };
    element('tools').append(
      group('Tool', { ...TOOLS, erase: 'Erase' }),
      group('Change', COMMANDS),
      group('Look', LOOKS),
    );
    document.addEventListener('click', (event) => {
      const button = event.target.closest('[data-action]');
      if (button) run(button.dataset.action, button.dataset.detail);
    });
    element('over').addEventListener('change', ({ target }) => {
      run('setOver', target.value);
      target.blur(); // keys are for the tools again
    });
    element('radius').addEventListener('input', ({ target }) => run('setRadius', Number(target.value)));
    element('opacity').addEventListener('input', ({ target }) => run('setOpacity', Number(target.value)));
    this.#buildHelp();
  }

  #buildHelp() {
    const groups = Object.entries(KEYS).map(([group, keys]) => {
      const rows = keys.map(([key, , words]) =>
        make('tr', {}, make('th', { scope: 'row' }, make('kbd', {}, key)), make('td', {}, words)),
      );
      return make('table', {}, make('caption', {}, group), make('tbody', {}, ...rows));
    });
    element('help-keys').append(...groups);
  }

  /** Everything about the side and the state of the tools. */
  show(desk, state) {
    const { side } = desk;
    document.body.classList.toggle('no-side', !side);
    if (!side) return;
    element('name').textContent = sideWords(side);
    element('name').title = side.id;
    const by = side.rater && side.status !== 'pending' ? ` by ${side.rater}` : '';
    setChip('status', `${statusWords(side.status)}${by}`, `chip status-${side.status}`);
    setChip('level', side.level ?? '', `level level-${side.level ?? 'none'}`);
    setChip('draft', desk.mayEdit ? DRAFT_WORDS[desk.draft] : 'only to look at', `draft-${desk.draft}`);
    element('why').hidden = !(side.reasons?.length || side.notes?.length);
    element('reasons').replaceChildren(
      ...[...(side.reasons ?? []), ...(side.notes ?? [])].map((words) => make('li', {}, words)),
    );
    this.#showLabels(desk, state);
    this.#showFindings(desk, state);
    this.showTools(desk, state);
  }

  showTools(desk, state) {
    const pressed = {
      ...Object.fromEntries(Object.keys(TOOLS).map((tool) => [tool, state.tool === tool])),
      erase: state.erasing,
      outline: state.outline,
      hide: state.hidden,
      before: state.before,
      otherSide: state.otherSide,
      secondImage: state.image > 0,
    };
    for (const [action, is] of Object.entries(pressed)) button(action).setAttribute('aria-pressed', String(is));
    const editing = [
      'undo',
      'redo',
      'interpolate',
      'copyBefore',
      'grow',
      'shrink',
      'keepLargest',
      'disc',
      'ball',
      'lasso',
      'erase',
      'save',
      'approve',
      'reject',
      'needsEdit',
    ];
    for (const action of editing) button(action).disabled = !desk.mayEdit;
    button('undo').disabled ||= !desk.history?.done.length;
    button('redo').disabled ||= !desk.history?.undone.length;
    button('discard').disabled = !desk.mayEdit || !desk.hasDraft;
    button('secondImage').disabled = (desk.images?.length ?? 0) < 2;
    button('otherSide').disabled = !desk.side?.other;
    button('before').disabled = !desk.prediction;
    element('radius').value = state.radiusMm;
    element('radius-words').textContent = `${state.radiusMm.toFixed(1)} mm`;
    element('opacity').value = state.opacity;
  }

  #showLabels(desk, state) {
    const rows = desk.palette.labels.map(({ value, name, color }, n) => {
      const swatch = make('span', { className: 'swatch' });
      swatch.style.backgroundColor = color;
      const row = make(
        'button',
        { type: 'button', className: 'label' },
        swatch,
        make('span', { className: 'label-name' }, name),
        make('span', { className: 'value' }, String(value)),
      );
      if (n < 9) row.append(make('kbd', {}, String(n + 1)));
      row.setAttribute('role', 'radio');
      row.setAttribute('aria-checked', String(value === state.label));
      row.dataset.action = 'setLabel';
      row.dataset.detail = value;
      return row;
    });
    element('labels').replaceChildren(...rows);
    const choices = [
      ['all', 'everything'],
      ['background', 'only background'],
      ...desk.palette.labels.map(({ value, name }) => [String(value), `only ${name}`]),
    ];
    element('over').replaceChildren(...choices.map(([value, words]) => make('option', { value }, words)));
    element('over').value = String(state.over);
  }

  #showFindings(desk, state) {
    const { findings } = desk;
    element('findings-words').textContent = findingsWords(desk);
    const rows = (findings ?? []).map((finding, n) => {
      const accepted = desk.accepted.has(finding.guard);
      const words = make(
        'button',
        { type: 'button', className: 'finding' },
        make('strong', {}, finding.guard),
        ` ${finding.message}`,
      );
      words.dataset.action = 'showFinding';
      words.dataset.detail = n;
      if (finding.place && !finding.message.includes(finding.place.join(', ')))
        words.append(make('span', { className: 'place' }, ` at ${finding.place.join(', ')}`));
      const row = make(
        'li',
        {
          className: `${finding.blocks === false ? 'note' : accepted ? 'accepted' : 'blocks'}${n === state.finding ? ' chosen' : ''}`,
        },
        words,
      );
      if (finding.blocks !== false && finding.acceptable) {
        const accept = make(
          'button',
          { type: 'button', disabled: !desk.mayEdit },
          accepted ? 'Accepted' : 'Accept',
          ' ',
          ...(n === state.finding ? [make('kbd', {}, keyOf('accept'))] : []),
        );
        accept.setAttribute('aria-pressed', String(accepted));
        accept.dataset.action = 'acceptFinding';
        accept.dataset.detail = n;
        row.append(accept);
      } else if (finding.blocks !== false) row.append(make('span', { className: 'never' }, 'cannot be accepted'));
      return row;
    });
    element('findings').replaceChildren(...rows);
  }

  showWhere(words) {
    element('where').textContent = words;
  }

  /** One sentence under the picture; `kind` is 'good', 'bad' or ''. */
  say(words, kind = '') {
    const line = element('message');
    line.textContent = words;
    line.className = kind;
  }

  /** Something that stays until it is dealt with. `choices`: words -> function. */
  notice(words, choices = {}) {
    element('notice').hidden = !words;
    element('notice-words').textContent = words ?? '';
    element('notice-buttons').replaceChildren(
      ...Object.entries(choices).map(([name, act]) => {
        const made = make('button', { type: 'button' }, name);
        made.addEventListener('click', () => {
          this.notice(null);
          act();
        });
        return made;
      }),
    );
  }
}

function button(action) {
  return document.querySelector(`button[data-action="${action}"]`);
}

function setChip(id, words, className) {
  const chip = element(id);
  chip.textContent = words;
  chip.className = className;
  chip.hidden = !words;
}

function findingsWords({ findings, hasDraft, blocking }) {
  if (findings === null) return hasDraft ? 'Save, and the guards look at it.' : 'The guards have not looked yet.';
  if (!findings.length) return 'The guards find nothing.';
  return blocking.length
    ? `${blocking.length} to deal with before it can be approved.`
    : 'Nothing that keeps it from being approved.';
}
