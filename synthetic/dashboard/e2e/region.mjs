// Opens a dashboard in headless Chromium, has a region killed and restored,
// and sees it turn red and green again without the page being reloaded.
// README.md lists the environment variables.

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium } from 'playwright-core';

const { DASHBOARD_URL: url, REGION: region, KILL: kill, RESTORE: restore, SCREENSHOT: screenshot } = process.env;
const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';
const timeout = Number(process.env.TIMEOUT_MS || 60_000);

function need(ok, what) {
  if (!ok) throw new Error(what);
}

/** act runs a shell command, or posts to a URL. */
async function act(what) {
  if (/^https?:/.test(what)) {
    const answer = await fetch(what, { method: 'POST' });
    need(answer.ok, `POST ${what}: ${answer.status} ${await answer.text()}`);
    return;
  }
  await new Promise((resolve, reject) => {
    execFile('/bin/sh', ['-c', what], (err, stdout, stderr) => (err ? reject(new Error(`${what}: ${err.message}\n${stdout}${stderr}`)) : resolve()));
  });
}

/** shows waits until the region's marker has the state and is drawn in its colour. */
async function shows(page, state, colour) {
  await page.waitForFunction(([id, state, colour]) => {
    const marker = document.querySelector(`.marker[data-region="${id}"]`);
    if (marker?.dataset.state !== state) return false;
    const [r, g] = getComputedStyle(marker.querySelector('.glyph')).color.match(/[\d.]+/g).map(Number);
    return colour === 'red' ? r > 1.5 * g : g > 1.5 * r;
  }, [region, state, colour], { timeout });
}

/** countries counts those in the region's colour. */
function countries(page) {
  return page.evaluate((id) => {
    const { tint } = document.querySelector(`.marker[data-region="${id}"]`).dataset;
    return document.querySelectorAll(`#countries [data-tint="${tint}"]`).length;
  }, region);
}

async function watch(page) {
  const faults = [];
  page.on('pageerror', (err) => faults.push(`page error: ${err.message}`));
  page.on('console', (line) => line.type() === 'error' && faults.push(`console: ${line.text()}`));
  page.on('request', (r) => r.url().startsWith(new URL(url).origin) || r.url().startsWith('data:') || faults.push(`asks another host: ${r.url()}`));

  await page.goto(url, { waitUntil: 'load' });
  await shows(page, 'up', 'green');
  await page.waitForSelector('#live[data-live="live"]', { timeout });
  await page.evaluate(() => { window.neverReloaded = true; });
  const atFirst = await countries(page);
  const steered = await page.locator('#countries [data-tint]').count() > 0;
  if (steered) need(atFirst > 0, `no country is in the colour of ${region}`);

  const killed = performance.now();
  await act(kill);
  await shows(page, 'down', 'red');
  const downMs = Math.round(performance.now() - killed);
  need(/ (is|are) down/.test(await page.textContent('#headline')), 'the headline does not say that a region is down');
  await page.waitForSelector(`.card[data-card="${region}"][data-state="down"]`, { timeout });
  await page.waitForSelector('#timeline li[data-state="down"]', { timeout });
  await page.waitForSelector('#matrix td[data-state="down"]', { timeout });
  if (steered) {
    await page.waitForFunction((id) => {
      const { tint } = document.querySelector(`.marker[data-region="${id}"]`).dataset;
      return !document.querySelector(`#countries [data-tint="${tint}"]`);
    }, region, { timeout });
  }
  if (screenshot) {
    await page.waitForTimeout(1500); // for colours to settle and the picture to look alive
    await page.screenshot({ path: screenshot });
  }

  const restored = performance.now();
  await act(restore);
  await shows(page, 'up', 'green');
  const upMs = Math.round(performance.now() - restored);
  await page.waitForSelector('#timeline li[data-state="up"]', { timeout });
  if (steered) {
    await page.waitForFunction(([id, n]) => {
      const { tint } = document.querySelector(`.marker[data-region="${id}"]`).dataset;
      return document.querySelectorAll(`#countries [data-tint="${tint}"]`).length >= n;
    }, [region, atFirst], { timeout });
  }
  need(await page.evaluate(() => window.neverReloaded === true), 'the page was reloaded');
  need(faults.length === 0, faults.join('\n'));
  return { region, red_ms: downMs, green_ms: upMs, countries: atFirst };
}

for (const [name, value] of Object.entries({ DASHBOARD_URL: url, REGION: region, KILL: kill, RESTORE: restore })) {
  need(value, `${name} is not set; see README.md`);
}
const profile = await mkdtemp(path.join(tmpdir(), 'dashboard-e2e-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1440, height: 1000 },
  colorScheme: 'dark',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
try {
  console.log(JSON.stringify(await watch(context.pages()[0] ?? await context.newPage())));
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
