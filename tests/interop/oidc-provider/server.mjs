// An authorization server by oidc-provider, for the interop tests. ../README.md describes it.
//
//     node server.mjs FOLDER      FOLDER: where its packages are installed

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

import { Store, age, revoke } from './store.mjs';

const installed = createRequire(pathToFileURL(`${process.argv[2]}/package.json`));
const { default: Provider } = await import(pathToFileURL(installed.resolve('oidc-provider')));

const settings = { accessTokenSeconds: 3600, refreshTokenSeconds: 86400 };
const requests = [];
let answersToLose = 0;

function configuration() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return {
    adapter: Store,
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig' }] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    scopes: ['openid', 'offline_access', 'read', 'write'],
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'none'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
    },
    rotateRefreshToken: true,
    issueRefreshToken: async (_, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    ttl: {
      AccessToken: () => settings.accessTokenSeconds,
      ClientCredentials: () => settings.accessTokenSeconds,
      RefreshToken: () => settings.refreshTokenSeconds,
      AuthorizationCode: 60,
      Grant: 86400,
      IdToken: 3600,
      Interaction: 600,
      Session: 86400,
    },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    // Nobody is there to consent: whatever is asked for is granted.
    loadExistingGrant: async ({ oidc }) => {
      const { client, session } = oidc;
      const grant = new oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId });
      grant.addOIDCScope(oidc.params.scope);
      await grant.save();
      return grant;
    },
  };
}

async function json(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString() || '{}');
}

// The user that the authorization request names is logged in.
async function logIn(request, response) {
  const { params } = await provider.interactionDetails(request, response);
  const login = { accountId: params.login_hint };
  await provider.interactionFinished(request, response, { login });
}

// What an access token opens.
async function resource(request) {
  const token = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  const found = await provider.AccessToken.find(token) ?? await provider.ClientCredentials.find(token);
  return found ? [200, { user: found.accountId ?? null }] : [401, { error: 'invalid_token' }];
}

const commands = {
  // Registers a client, or replaces it.
  client: ({ id, secret, jwks, grant = 'authorization_code', redirectUri }) => {
    const forUsers = grant === 'authorization_code';
    return new Store('Client').upsert(id, {
      client_id: id,
      grant_types: forUsers ? [grant, 'refresh_token'] : [grant],
      response_types: forUsers ? ['code'] : [],
      redirect_uris: forUsers ? [redirectUri] : [],
      scope: 'openid offline_access read write',
      ...(jwks
        ? { jwks, token_endpoint_auth_method: 'private_key_jwt' }
        : { client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' }),
    });
  },
  settings: (changed) => { Object.assign(settings, changed); },
  revoke: ({ user }) => ({ ended: revoke(user) }),
  age: ({ user, seconds }) => { age(user, seconds); },
  lose: ({ answers }) => { answersToLose = answers; },
  requests: () => requests,
};

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, issuer);
  const answer = (status, body) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body ?? {}));
  };
  try {
    if (pathname.startsWith('/control/')) {
      answer(200, await commands[pathname.slice('/control/'.length)](await json(request)));
    } else if (pathname === '/resource') {
      answer(...await resource(request));
    } else if (pathname.startsWith('/interaction/')) {
      await logIn(request, response);
    } else {
      await serve(request, response);
    }
  } catch (error) {
    console.error(error);
    answer(500, { error: String(error) });
  }
});

await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, configuration());

// Notes what is asked of the token endpoint; an answer may be lost after all the work was done.
provider.use(async (context, next) => {
  await next();
  if (context.path !== '/token') return;
  requests.push({
    grant: context.oidc?.params?.grant_type,
    refreshToken: context.oidc?.params?.refresh_token,
    status: context.status,
    error: context.body?.error,
    lost: answersToLose > 0,
  });
  if (answersToLose > 0) {
    answersToLose -= 1;
    context.respond = false;
    context.req.socket.destroy();
  }
});
provider.on('server_error', (_, error) => console.error(error));
const serve = provider.callback();

console.log(`listening on ${issuer}`);
process.stdin.on('end', () => process.exit()).resume();
