// Every key of the editor. The page, its help and docs/editor.md show this table.

/**
 * group -> [key as shown, action, what it does]. `Shift+` and `Ctrl+` stand before a key that needs them; a letter or
 * sign alone is what the keyboard gives, with or without Shift. Ctrl is also Cmd.
 */
export const KEYS = {
  Decide: [
    ['a', 'approve', 'approve: save, run the guards, record'],
    ['r', 'reject', 'reject'],
    ['x', 'needsEdit', 'needs edit: somebody else should look'],
    ['c', 'comment', 'write a comment (Esc: back to the picture)'],
    ['s', 'save', 'save the correction and run the guards'],
    ['j', 'nextFinding', 'jump to the next finding'],
    ['Shift+A', 'accept', 'accept the finding that is shown, or take that back'],
    ['n', 'nextSide', 'next side of the queue'],
    ['Shift+N', 'previousSide', 'back to the side that was open before'],
  ],
  Paint: [
    ['p', 'disc', 'brush in the plane'],
    ['i', 'ball', 'brush as a ball'],
    ['g', 'lasso', 'fill what you draw around: drag, or click corner by corner (Enter closes, Esc gives up)'],
    ['e', 'erase', 'erase instead of paint, with any of these; again: paint'],
    ['w', 'navigate', 'no tool: click moves the crosshair'],
    ['[', 'smaller', 'smaller brush'],
    [']', 'larger', 'larger brush'],
    ['1 … 9', 'label', 'paint with that label of the list'],
    ['q', 'over', 'paint over: everything, only background, only one label'],
    ['Shift+Q', 'pickOver', 'paint only over the label under the crosshair'],
  ],
  Change: [
    ['u', 'undo', 'undo (also Ctrl+Z)'],
    ['y', 'redo', 'redo (also Ctrl+Y, Ctrl+Shift+Z)'],
    ['f', 'interpolate', 'fill the label between the slices that were edited in this plane'],
    ['d', 'copyBefore', 'copy the label from the slice before'],
    ['Shift+D', 'copyAfter', 'copy the label from the slice after'],
    ['+', 'grow', 'grow the label by a voxel'],
    ['-', 'shrink', 'shrink the label by a voxel'],
    ['k', 'keepLargest', 'keep the largest piece of the label'],
    ['Shift+K', 'keepLargestOfAll', 'keep the largest piece of all labels together'],
  ],
  Look: [
    ['ArrowUp', 'sliceUp', 'next slice (also the wheel)'],
    ['ArrowDown', 'sliceDown', 'slice before'],
    ['ArrowRight', 'nextPlane', 'go to the next plane'],
    ['ArrowLeft', 'previousPlane', 'go to the plane before'],
    ['v', 'view', 'three planes and rendering, three planes, one plane large, rendering'],
    ['z', 'zoomIn', 'zoom in (also Ctrl+wheel)'],
    ['Shift+Z', 'zoomOut', 'zoom out'],
    ['0', 'fit', 'show everything, contrast as at first'],
    ['l', 'outline', 'labels filled or as outlines'],
    ['h', 'hide', 'hide and show labels'],
    [',', 'fainter', 'labels more transparent'],
    ['.', 'stronger', 'labels less transparent'],
    ['b', 'before', 'prediction against correction'],
    ['t', 'secondImage', 'T1w against T2w'],
    ['o', 'otherSide', 'the other side of this person beside it'],
    ['?', 'help', 'all keys'],
  ],
};

const ALSO = { 'Ctrl+z': 'undo', 'Ctrl+y': 'redo', 'Ctrl+Shift+Z': 'redo', 'Ctrl+s': 'save', '=': 'grow', _: 'shrink' };

const ACTIONS = new Map(Object.entries(ALSO));
for (const [shown, action] of Object.values(KEYS).flat()) {
  if (action === 'label') for (let n = 1; n <= 9; n++) ACTIONS.set(String(n), action);
  else ACTIONS.set(shown, action);
}

/**
 * The action of a key press, null: none.
 *
 * @param {{key: string, ctrlKey?: boolean, metaKey?: boolean, shiftKey?: boolean, altKey?: boolean}} event
 */
export function actionOf({ key, ctrlKey, metaKey, shiftKey, altKey }) {
  const isLetter = /^[a-z]$/i.test(key);
  if (altKey && (isLetter || /^[0-9]$|../.test(key))) return null;
  if (altKey) return ACTIONS.get(key) ?? null; // many keyboards give [ and ] with Alt, AltGr (which is Ctrl+Alt) or Option only
  const letter = isLetter ? (shiftKey ? key.toUpperCase() : key.toLowerCase()) : key;
  const name = (ctrlKey || metaKey ? 'Ctrl+' : '') + (shiftKey && isLetter ? 'Shift+' : '') + letter;
  return ACTIONS.get(name) ?? null;
}

/** The key of an action, as shown. */
export function keyOf(action) {
  return (
    Object.values(KEYS)
      .flat()
      .find(([, one]) => one === action)?.[0] ?? ''
  );
}

/** All keys as Markdown tables, for docs/editor.md. */
export function keysAsMarkdown() {
  return Object.entries(KEYS)
    .map(([group, keys]) =>
      [`| ${group} | |`, '| --- | --- |', ...keys.map(([key, , words]) => `| \`${key}\` | ${words} |`)].join('\n'),
    )
    .join('\n\n');
}
