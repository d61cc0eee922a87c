// What every key of keys.js and every button does.

import { element } from './panel.js';
import { VIEWS } from './viewer.js';

/** Every action of keys.js and of the buttons -> what it does. */
export function actionsOf(app) {
  return { ...decidingActions(app), ...paintingActions(app), ...lookingActions(app) };
}

function decidingActions(app) {
  const { desk, state, panel } = app;
  const toggle = (n) => {
    const finding = desk.findings?.[n];
    if (!desk.mayEdit || !finding || finding.blocks === false) return;
    if (finding.acceptable) desk.toggleAccepted(finding.guard);
    else panel.say(`${finding.guard} cannot be accepted: ${finding.message}`, 'bad');
  };
  const ifMine = (act) => (detail) =>
    desk.mayEdit ? act(detail) : panel.say('Somebody else has this side: you can only look at it.', 'bad');
  return {
    approve: ifMine(() => app.exclusively(() => app.decide('approved'))),
    reject: ifMine(() => app.exclusively(() => app.decide('rejected'))),
    needsEdit: ifMine(() => app.exclusively(() => app.decide('needs_edit'))),
    save: ifMine(() => app.exclusively(() => app.save())),
    discard: ifMine((sure) => {
      if (sure !== 'sure')
        panel.notice('Throw away everything since the last save?', {
          'Throw away': () => app.run('discard', 'sure'),
          Keep: () => {},
        });
      else app.exclusively(() => app.discard());
    }),
    comment: () => element('comment').focus(),
    nextFinding: () => app.nextFinding(),
    showFinding: (n) => app.showFinding(Number(n)),
    accept: () => toggle(Math.max(0, state.finding)),
    acceptFinding: (n) => toggle(Number(n)),
    nextSide: () => app.exclusively(() => app.step(1)),
    previousSide: () => app.exclusively(() => app.step(-1)),
  };
}

function paintingActions(app) {
  const { desk, painting, state, surface, viewer, panel } = app;
  const edits = (act) => () => {
    if (!desk.mayEdit) return panel.say('Somebody else has this side: you can only look at it.', 'bad');
    surface.giveUp();
    app.showCorrection();
    return act();
  };
  const setOver = (over) => {
    state.over = over === 'all' || over === 'background' ? over : Number(over);
    panel.say(
      `Paints over ${state.over === 'all' ? 'everything' : state.over === 'background' ? 'only background' : `only ${desk.palette.name(state.over)}`}.`,
    );
    app.show();
  };
  const setRadius = (mm) => {
    state.radiusMm = Math.min(6, Math.max(0.1, Math.round(mm * 10) / 10));
    app.show();
  };
  const setLabel = (value) => {
    state.label = Number(value);
    app.show();
  };
  const nextOver = () => {
    if (state.over === 'all') return 'background';
    return state.over === 'background' ? viewer.volume.at(viewer.crosshair) || state.label : 'all';
  };
  return {
    navigate: () => app.setTool('navigate'),
    disc: () => app.setTool('disc'),
    ball: () => app.setTool('ball'),
    lasso: () => app.setTool('lasso'),
    erase: () => {
      state.erasing = !state.erasing;
      app.show();
    },
    smaller: () => setRadius(state.radiusMm - (state.radiusMm > 2 ? 0.3 : 0.15) - 1e-9),
    larger: () => setRadius(state.radiusMm + (state.radiusMm >= 2 ? 0.3 : 0.15) + 1e-9),
    setRadius,
    setLabel,
    setOver,
    label: (key) => {
      const label = desk.palette.labels[Number(key) - 1];
      if (label) setLabel(label.value);
    },
    over: () => setOver(nextOver()),
    pickOver: () => setOver(viewer.volume.at(viewer.crosshair) || 'background'),
    undo: edits(() => desk.undo() || panel.say('There is nothing to undo.')),
    redo: edits(() => desk.redo() || panel.say('There is nothing to redo.')),
    interpolate: edits(() => painting.interpolate()),
    copyBefore: edits(() => painting.copy(1)),
    copyAfter: edits(() => painting.copy(-1)),
    grow: edits(() => painting.grow()),
    shrink: edits(() => painting.shrink()),
    keepLargest: edits(() => painting.keepLargest(state.label)),
    keepLargestOfAll: edits(() => painting.keepLargest(null)),
  };
}

function lookingActions(app) {
  const { desk, state, viewer } = app;
  const look = (change) => {
    Object.assign(state, change);
    viewer.setLook(state);
    app.other?.setLook(state);
    app.show();
  };
  const move = (steps) => {
    viewer.move(viewer.plane, steps);
    app.followOther();
  };
  const plane = (step) => {
    viewer.setPlane((viewer.plane + step + 3) % 3);
  };
  const setView = (view) => {
    state.view = view;
    viewer.setView(view);
    app.other?.setView(view === 'four' ? 'three' : view);
    app.show();
  };
  const opacity = (value) => look({ opacity: Math.min(1, Math.max(0, Math.round(value * 20) / 20)) });
  return {
    sliceUp: () => move(1),
    sliceDown: () => move(-1),
    nextPlane: () => plane(1),
    previousPlane: () => plane(-1),
    view: () => setView(VIEWS[(VIEWS.indexOf(state.view) + 1) % VIEWS.length]),
    setView,
    zoomIn: () => viewer.zoom(1.25),
    zoomOut: () => viewer.zoom(1 / 1.25),
    fit: () => viewer.fit(),
    outline: () => look({ outline: !state.outline }),
    hide: () => look({ hidden: !state.hidden }),
    fainter: () => opacity(state.opacity - 0.1),
    stronger: () => opacity(state.opacity + 0.1),
    setOpacity: opacity,
    before: () => app.showBefore(!state.before),
    secondImage: () => {
      if (desk.images.length < 2) return app.panel.say('This side has one image only.');
      state.image = viewer.showImage(state.image + 1);
      return app.show();
    },
    otherSide: () => {
      if (!desk.side.other) return app.panel.say('The other side of this person is not here.');
      return app.attempt(() => app.showOtherSide(!state.otherSide));
    },
    help: () => element('help').showModal(),
  };
}
