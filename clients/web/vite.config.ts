import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

// In development the gateway is asked through Vite: `npm run dev` beside a gateway on its usual address.
const gateway = 'http://127.0.0.1:8080'
// The gateway asks that a call come from a page of its own.
const proxy = { target: gateway, changeOrigin: true, headers: { origin: gateway } }

export default defineConfig({
	// Relative, so that the page works from any path.
	base: './',
	// The library of the session lane is the folder beside this one; its packages are this page's, so that there is one of each.
	resolve: {
		alias: [{ find: /^consilience-client\/(.*)$/, replacement: `${fileURLToPath(new URL('../javascript/src/', import.meta.url))}$1.js` }],
		dedupe: ['@polkadot/types', '@polkadot/util', '@polkadot/util-crypto', '@polkadot/x-ws'],
	},
	build: { target: 'es2022', modulePreload: { polyfill: false }, assetsInlineLimit: 0, chunkSizeWarningLimit: 1500 },
	test: { include: ['test/**/*.test.{ts,tsx}'] },
	server: { proxy: { '/v1/lane': { ...proxy, ws: true }, '/v1': proxy, '/health': proxy, '/config.json': proxy } },
})
